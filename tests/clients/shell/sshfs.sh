#!/bin/bash
# sshfs: a workspace's folder mounted on the laptop.
. "$(dirname "$0")/common.sh"
echo "version $(sshfs --version 2>&1 | grep -i ^sshfs)"

mounted() {
  mkdir there
  sshfs -F "$PROBE_CONFIG" "$PROBE_HOST:" there
  trap 'fusermount3 -u there || fusermount -u there' RETURN
  mkdir "there/$PROBE_NAME"
  cp -r "$tree/." "there/$PROBE_NAME/"
  diff -r "$tree" "there/$PROBE_NAME"
  mv "there/$PROBE_NAME/large" "there/$PROBE_NAME/moved"
  printf more >>"there/$PROBE_NAME/moved"
  truncate -s 3145728 "there/$PROBE_NAME/moved"
  is_bulk "there/$PROBE_NAME/moved"
  chmod 600 "there/$PROBE_NAME/moved"
  rm -r "there/$PROBE_NAME"
}

feature mount mounted
