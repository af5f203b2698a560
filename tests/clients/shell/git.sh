#!/bin/bash
# git: push, clone, fetch, with protocol version 2.
. "$(dirname "$0")/common.sh"
echo "version $(git --version)"
export HOME="$PROBE_FOLDER" GIT_SSH_COMMAND="ssh -F '$PROBE_CONFIG'" GIT_CONFIG_NOSYSTEM=1
git config --global user.name probe
git config --global user.email probe@example.org
git config --global init.defaultBranch main
push_clone_fetch() {
  ssh -F "$PROBE_CONFIG" "$PROBE_HOST" "git init -q --bare $PROBE_NAME.git && git -C $PROBE_NAME.git symbolic-ref HEAD refs/heads/main"
  git init -q work
  cp -r "$tree" work/tree
  git -C work add .
  git -C work commit -q -m one
  git -C work push -q "ssh://$PROBE_HOST$(ssh -F "$PROBE_CONFIG" "$PROBE_HOST" 'echo "$PWD"')/$PROBE_NAME.git" main
  git -c protocol.version=2 clone -q "$PROBE_HOST:$PROBE_NAME.git" clone
  diff -r "$tree" clone/tree
  git -C work commit -q --allow-empty -m two
  git -C work push -q "$PROBE_HOST:$PROBE_NAME.git" main
  git -C clone fetch -q
  same 'newest commit' "$(git -C clone log -1 --format=%s origin/main)" two
}
feature 'push, clone, fetch' push_clone_fetch
