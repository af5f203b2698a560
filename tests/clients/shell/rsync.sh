#!/bin/bash
# rsync, there and back, and again when little has changed.
. "$(dirname "$0")/common.sh"
echo "version $(rsync --version | head -n 1 | cut -d' ' -f1-4)"
tree_there_and_back() {
  rsync -a -e "ssh -F '$PROBE_CONFIG'" "$tree/" "$PROBE_HOST:$PROBE_NAME/"
  rsync -a -e "ssh -F '$PROBE_CONFIG'" "$PROBE_HOST:$PROBE_NAME/" back/
  diff -r "$tree" back
  printf changed >>"$tree/large"
  rsync -az --delete --checksum -e "ssh -F '$PROBE_CONFIG'" "$tree/" "$PROBE_HOST:$PROBE_NAME/"
  rsync -az -e "ssh -F '$PROBE_CONFIG'" "$PROBE_HOST:$PROBE_NAME/" back/
  diff -r "$tree" back
}
feature tree tree_there_and_back
