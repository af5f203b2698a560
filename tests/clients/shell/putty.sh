#!/bin/bash
# PuTTY's plink, psftp and pscp.
. "$(dirname "$0")/common.sh"
echo "version $(plink -V | head -n 1)"
export HOME="$PROBE_FOLDER"
puttygen "$PROBE_KEY" -o key.ppk
options=(-batch -P "$PROBE_PORT" -l "$PROBE_USER" -i key.ppk -hostkey "$(fingerprint)")

command() { command_with plink "${options[@]}" 127.0.0.1; }
stdin() { stdin_with plink "${options[@]}" 127.0.0.1; }
terminal() { same 'a terminal' "$(plink "${options[@]}" -t 127.0.0.1 'test -t 0 && echo yes' </dev/null | tr -d '\r')" yes; }
psftp_batch() {
  printf 'put "%s" %s\nren %s %s-2\nget %s-2 psftp-back\ndel %s-2\n' \
    "$bulk" "$PROBE_NAME" "$PROBE_NAME" "$PROBE_NAME" "$PROBE_NAME" "$PROBE_NAME" >batch
  psftp "${options[@]}" -b batch 127.0.0.1
  is_bulk psftp-back
}
pscp_there_and_back() {
  pscp -q "$1" "${options[@]}" "$bulk" "127.0.0.1:$PROBE_NAME-pscp"
  pscp -q "$1" "${options[@]}" "127.0.0.1:$PROBE_NAME-pscp" pscp-back
  is_bulk pscp-back
}
pscp_sftp() { pscp_there_and_back -sftp; }
pscp_scp() { pscp_there_and_back -scp; }
standard_io() { same content "$(printf 'there and back' | plink "${options[@]}" -nc "127.0.0.1:$PROBE_ECHO" 127.0.0.1)" 'there and back'; }
many() { for _ in $(seq 10); do command; done; }

feature command command
feature stdin stdin
feature terminal terminal
feature psftp psftp_batch
feature 'pscp -sftp' pscp_sftp
feature 'pscp -scp' pscp_scp
feature -nc standard_io
feature many many
