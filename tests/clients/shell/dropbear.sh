#!/bin/bash
# Dropbear's dbclient, on routers and in small images.
. "$(dirname "$0")/common.sh"
echo "version $(dbclient -V 2>&1 | head -n 1)"
dropbearconvert openssh dropbear "$PROBE_KEY" key >/dev/null 2>&1
export HOME="$PROBE_FOLDER"
# What it says beside the command's own stderr is left out; only once it has ended, so that nothing of the rest is late.
run() {
  local status=0
  dbclient -y -y -T -i key -p "$PROBE_PORT" "$PROBE_USER@127.0.0.1" "$@" 2>said || status=$?
  grep -v -e '^$' -e 'Host .127' -e 'ssh-ed25519' -e 'Fingerprint' -e 'WARNING' said >&2 || true
  return "$status"
}

command() { command_with run; }
stdin() { stdin_with run; }
standard_io() {
  same content "$(printf 'there and back' | dbclient -y -y -i key -B "127.0.0.1:$PROBE_ECHO" -p "$PROBE_PORT" "$PROBE_USER@127.0.0.1" 2>/dev/null)" 'there and back'
}
many() { for _ in $(seq 10); do command; done; }

feature command command
feature stdin stdin
feature -B standard_io
feature many many
