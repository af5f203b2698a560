# What an editor's extension for remote work feeds to `bash` or `sh` in the workspace: lays down what is to run there, starts it
# so that it outlives this shell, or finds the one that runs, and says where it listens between two marks.
#
# Set ahead of it, by who sends it: MARK, a word that nothing else prints; HOME_OF, the server's folder; RUN, the command line, which
# may name that folder and says `listening on …PLACE/`. What follows it gives `install_and_start` a payload and calls `finish`, and
# does not exit: the shell reads on, and keeps the connection.

umask 077
export HOME_OF
LOG="$HOME_OF/log"
PID="$HOME_OF/pid"
LOCK="$HOME_OF/lock"

say() { printf '%s==%s==\n' "$1" "$2"; }

finish() {
  say exitCode "$1"
  say listeningOn "$PLACE"
  say pid "$(cat "$PID" 2>/dev/null)"
  say fresh "$FRESH"
  say payload "$GOT"
  say shell "$0"
  say osReleaseId "$(. /etc/os-release 2>/dev/null; echo "$ID")"
  say arch "$(uname -m)"
  say agentSocket "${SSH_AUTH_SOCK:-none}"
  printf '%s: end\n' "$MARK"
}

runs() { [ -s "$PID" ] && kill -0 "$(cat "$PID")" 2>/dev/null; }

# The server's log says where it listens; it may take a while to say so.
place() {
  turns=0
  while [ "$turns" -lt 1200 ]; do
    PLACE=$(sed -n 's/.*listening on \(.*\)\/$/\1/p' "$LOG" 2>/dev/null | head -n 1)
    [ -z "$PLACE" ] || return 0
    runs || return 1
    sleep 0.05
    turns=$((turns + 1))
  done
  return 1
}

# One of several windows that are opened at once lays the server down and starts it.
hold() {
  turns=0
  until mkdir "$LOCK" 2>/dev/null; do
    [ "$turns" -lt 1200 ] || return 1
    sleep 0.05
    turns=$((turns + 1))
  done
}

install_and_start() {
  cat > "$HOME_OF/payload"
  GOT=$(sha256sum "$HOME_OF/payload" | cut -d ' ' -f 1)
  FRESH=no
  hold || return 3
  if ! runs; then
    FRESH=yes
    rm -f "$LOG"
    nohup setsid sh -c 'echo $$ > "$0"; exec "$@"' "$PID" sh -c "exec $RUN" > "$LOG" 2>&1 < /dev/null &
    turns=0
    until [ -s "$PID" ] || [ "$turns" -ge 600 ]; do
      sleep 0.05
      turns=$((turns + 1))
    done
  fi
  place
  PLACED=$?
  rmdir "$LOCK"
  [ "$PLACED" = 0 ] || { cat "$LOG" >&2; return 1; }
}

printf '%s: start\n' "$MARK"
mkdir -p "$HOME_OF"
PLACE= GOT= FRESH=
