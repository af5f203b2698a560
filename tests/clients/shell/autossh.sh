#!/bin/bash
# autossh keeps an ssh; here it only has to leave as its ssh does.
. "$(dirname "$0")/common.sh"
echo "version $(autossh -V 2>&1)"
export AUTOSSH_GATETIME=0
command() { same stdout "$(autossh -M 0 -F "$PROBE_CONFIG" "$PROBE_HOST" 'echo out' </dev/null)" out; }
feature command command
