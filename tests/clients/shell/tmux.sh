#!/bin/bash
# tmux in the workspace, seen through a terminal of a size of our own.
. "$(dirname "$0")/common.sh"
echo "version $(tmux -V)"
here="$PROBE_FOLDER/here"
inside() {
  tmux -S "$here" -f /dev/null new-session -d -x 91 -y 33 \
    "ssh -F '$PROBE_CONFIG' -tt $PROBE_HOST 'TERM=screen tmux -L $PROBE_NAME -f /dev/null new-session \"stty size; echo marker; cat\"'"
  trap 'tmux -S "$here" kill-server; ssh -F "$PROBE_CONFIG" "$PROBE_HOST" "tmux -L $PROBE_NAME kill-server" 2>/dev/null' RETURN
  for _ in $(seq 300); do
    screen=$(tmux -S "$here" capture-pane -p)
    case $screen in *marker*) break ;; esac
    sleep 0.1
  done
  case $screen in *'32 91'*marker*) ;; *) echo "the screen shows: $screen"; return 1 ;; esac
}
feature 'a session inside' inside
