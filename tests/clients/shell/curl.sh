#!/bin/bash
# curl's sftp and scp, over libssh2.
. "$(dirname "$0")/common.sh"
echo "version $(curl --version | grep -o 'libssh2/[0-9.]*')"
export HOME="$PROBE_FOLDER"
options=(-sS --insecure --user "$PROBE_USER:" --key "$PROBE_KEY" --max-time 60)
there_and_back() {
  curl "${options[@]}" -T "$bulk" "$1://127.0.0.1:$PROBE_PORT/~/$PROBE_NAME-$1"
  curl "${options[@]}" -o "$1-back" "$1://127.0.0.1:$PROBE_PORT/~/$PROBE_NAME-$1"
  is_bulk "$1-back"
}
sftp() { there_and_back sftp; }
feature sftp sftp
