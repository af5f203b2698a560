#!/bin/bash
# lftp over its own sftp, with ssh as the carrier.
. "$(dirname "$0")/common.sh"
echo "version $(lftp --version | head -n 1 | cut -d'|' -f2 | xargs)"
export HOME="$PROBE_FOLDER"
mirror() {
  lftp -c "set sftp:connect-program \"ssh -a -x -F '$PROBE_CONFIG'\"; set net:max-retries 1; set net:timeout 30; open sftp://$PROBE_USER:@$PROBE_HOST; mkdir $PROBE_NAME; mirror -R --no-symlinks '$tree' $PROBE_NAME; get $PROBE_NAME/large -o back"
  is_bulk back
}
feature mirror mirror
