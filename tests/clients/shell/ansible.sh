#!/bin/bash
# ansible-core: a playbook with a command, a copy, a template and facts; the first argument is ansible's folder of programs.
. "$(dirname "$0")/common.sh"
echo "version $("$1/ansible" --version | head -n 1)"
export HOME="$PROBE_FOLDER" ANSIBLE_LOCAL_TEMP="$PROBE_FOLDER/tmp" ANSIBLE_HOST_KEY_CHECKING=False LC_ALL=C.UTF-8
export ANSIBLE_SSH_ARGS="-F '$PROBE_CONFIG' -o ControlMaster=auto -o ControlPersist=20s -o ControlPath=$PROBE_FOLDER/cm"
played() {
  "$1/ansible-playbook" -i "$PROBE_HOST," -e "name=$PROBE_NAME-$2" "$here/../ansible/playbook.yml"
  ssh -F "$PROBE_CONFIG" -o ControlPath="$PROBE_FOLDER/cm" -O exit "$PROBE_HOST" 2>/dev/null || true
}
here=$(cd "$(dirname "$0")" && pwd)
programs=$1
pipelined() { ANSIBLE_PIPELINING=True played "$programs" on; }
not_pipelined() { ANSIBLE_PIPELINING=False played "$programs" off; }
feature 'playbook, pipelining' pipelined
feature 'playbook, no pipelining' not_pipelined
