#!/bin/bash
# OpenSSH's own programs. The first argument chooses them: `openssh`, or `openssh-7` for Debian's ssh1 and scp1.
. "$(dirname "$0")/common.sh"
if [ "$1" = openssh-7 ]; then ssh=ssh1 scp=scp1; else ssh=ssh scp=scp; fi
to=(-F "$PROBE_CONFIG")
echo "version $($ssh -V 2>&1 | sed 's/,.*//')"

command() { command_with $ssh "${to[@]}" "$PROBE_HOST"; }
stdin() { stdin_with $ssh "${to[@]}" "$PROBE_HOST"; }
terminal() {
  same 'a terminal' "$($ssh "${to[@]}" -tt "$PROBE_HOST" 'test -t 0 && test -t 1 && echo yes' </dev/null | tr -d '\r')" yes
}
legacy_scp() {
  $scp -q $old "${to[@]}" "$bulk" "$PROBE_HOST:$PROBE_NAME-scp"
  $scp -q $old "${to[@]}" "$PROBE_HOST:$PROBE_NAME-scp" back
  is_bulk back
  $scp -q -r -p $old "${to[@]}" "$tree" "$PROBE_HOST:$PROBE_NAME-tree$old"
  $scp -q -r -p $old "${to[@]}" "$PROBE_HOST:$PROBE_NAME-tree$old" "tree-back$old"
  diff -r "$tree" "tree-back$old"
}
new_scp() { old='' legacy_scp; }
sftp_batch() {
  cat >batch <<EOF
put "$bulk" $PROBE_NAME-sftp
ls -l $PROBE_NAME-sftp
rename $PROBE_NAME-sftp $PROBE_NAME-renamed
get $PROBE_NAME-renamed "$PROBE_FOLDER/sftp-back"
mkdir $PROBE_NAME-dir
put -r "$tree/sub folder" $PROBE_NAME-dir
chmod 600 $PROBE_NAME-renamed
ln -s $PROBE_NAME-renamed $PROBE_NAME-link
df -h
rm $PROBE_NAME-link
rm $PROBE_NAME-renamed
EOF
  sftp "${to[@]}" -b batch "$PROBE_HOST"
  is_bulk sftp-back
}
local_forward() {
  sock="$PROBE_FOLDER/forward"
  $ssh "${to[@]}" -N -o ExitOnForwardFailure=yes -L "$sock:127.0.0.1:$PROBE_ECHO" "$PROBE_HOST" &
  started=$!
  trap 'kill $started' RETURN
  for _ in $(seq 300); do [ -S "$sock" ] && break; sleep 0.1; done
  python3 - "$sock" <<'EOF'
import socket, sys
there = socket.socket(socket.AF_UNIX)
there.connect(sys.argv[1])
there.sendall(b"there and back")
there.shutdown(socket.SHUT_WR)
text = b""
while chunk := there.recv(100):
    text += chunk
assert text == b"there and back", text
EOF
}
standard_io() { same content "$(printf 'there and back' | $ssh "${to[@]}" -W "127.0.0.1:$PROBE_ECHO" "$PROBE_HOST")" 'there and back'; }
shared_connection() {
  control="$PROBE_FOLDER/c"
  $ssh "${to[@]}" -o ControlMaster=yes -o ControlPath="$control" -N -f "$PROBE_HOST"
  trap '$ssh "${to[@]}" -o ControlPath="$control" -O exit "$PROBE_HOST" 2>/dev/null' RETURN
  for n in $(seq 50); do $ssh "${to[@]}" -o ControlPath="$control" "$PROBE_HOST" "cat >/dev/null; echo $n" </dev/null >"out.$n" & done
  wait $(jobs -p)
  same 'answers' "$(cat out.* | sort -n | tr '\n' ' ')" "$(seq 50 | tr '\n' ' ')"
}
many() { for _ in $(seq 10); do command; done; }

feature command command
feature stdin stdin
feature terminal terminal
if [ "$1" = openssh-7 ]; then
  old='' feature scp legacy_scp
else
  feature scp new_scp
  old=-O feature 'scp -O' legacy_scp
  feature sftp sftp_batch
fi
feature -L local_forward
feature -W standard_io
feature ControlMaster shared_connection
feature many many
