#!/bin/bash
# ssh-audit: no algorithm that it calls a failure; the first argument is its program.
. "$(dirname "$0")/common.sh"
echo "version $("$1" --help 2>&1 | grep -o 'v[0-9][0-9.]*' | head -n 1)"
program=$1
no_failure() {
  "$program" --no-colors -b -l fail -p "$PROBE_PORT" 127.0.0.1 >report || true
  [ -s report ] || return 0
  ! grep -E '\[fail\]' report
}
feature 'no failure' no_failure
