#!/bin/bash
# rclone: its own SSH library, or ssh as the carrier.
. "$(dirname "$0")/common.sh"
echo "version $(rclone version | head -n 1)"
export HOME="$PROBE_FOLDER" RCLONE_CONFIG="$PROBE_FOLDER/rclone.conf"
touch "$RCLONE_CONFIG"
copied() {
  rclone copy "$tree" "$1$PROBE_NAME-rclone" --skip-links
  rclone check "$tree" "$1$PROBE_NAME-rclone" --skip-links
  rclone copy "$1$PROBE_NAME-rclone" back
  is_bulk back/large
}
own_library() {
  copied ":sftp,host=127.0.0.1,port=$PROBE_PORT,user=$PROBE_USER,key_file='$PROBE_KEY':"
}
feature 'copy, check' own_library
