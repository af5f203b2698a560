# What the probes of command-line clients share. Read by each of them; `feature NAME FUNCTION` is one line of the table.
set -u
umask 022
cd "$PROBE_FOLDER" || exit 1

# Three MiB that do not compress, a small tree with awkward names, and where they are.
bulk="$PROBE_FOLDER/bulk"
head -c 3145728 /dev/urandom >"$bulk"
bulk_hash=$(sha256sum <"$bulk")
tree="$PROBE_FOLDER/tree"
mkdir -p "$tree/sub folder"
cp "$bulk" "$tree/large"
printf small >"$tree/sub folder/a name with spaces"
ln -s large "$tree/link"

feature() {
  if said=$(set -e; "$2" 2>&1); then
    echo "ok $1"
  else
    echo "fail $1: $(printf %s "$said" | tr -s '[:space:]' ' ' | tail -c 300)"
  fi
}

# same WHAT GOT WANTED
same() {
  [ "$2" = "$3" ] || { echo "$1: '$(printf %s "$2" | head -c 100)', not '$(printf %s "$3" | head -c 100)'"; return 1; }
}

# is_bulk FILE: whether it holds what `bulk` holds
is_bulk() { same content "$(sha256sum <"$1")" "$bulk_hash"; }

# command_with RUNNER…: what a command must do, whoever runs it; the command is the last argument
command_with() {
  code=0
  out=$("$@" 'echo out; echo err >&2; exit 7' 2>"$PROBE_FOLDER/err" </dev/null) || code=$?
  same stdout "$out" out
  grep -qx 'err.\{0,1\}' "$PROBE_FOLDER/err" || { echo "stderr: $(cat "$PROBE_FOLDER/err")"; return 1; }
  same 'exit code' "$code" 7
}

# stdin_with RUNNER…
stdin_with() { same hash "$("$@" sha256sum <"$bulk")" "$bulk_hash"; }

# The server's host key, for clients that want to be told it.
fingerprint() { ssh-keyscan -T 30 -t ed25519 -p "$PROBE_PORT" 127.0.0.1 2>/dev/null | ssh-keygen -lf - | cut -d' ' -f2; }
