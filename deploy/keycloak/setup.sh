#!/usr/bin/env bash
# Puts into an existing realm what realm.json holds for Doorward: roles, groups, the two clients with their mappers.
#
#   kcadm.sh config credentials --server https://keycloak.example --realm master --user admin
#   deploy/keycloak/setup.sh --realm work [--gateway https://doorward.example] [--kcadm PATH] [--config FILE] [--dry-run]
#
# --gateway: where Keycloak says that somebody was logged out, so that their sessions end at once (back-channel logout).
# Log in first, as above: this script takes no password. It says for each thing `+` made, `~` changed or `=` as it should be,
# and a second run changes nothing. It removes nothing, and touches no user, no secret and no setting of the realm.
# Exit: 0 done, 1 Keycloak said no, 2 with --dry-run: something would change, 64 usage.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
wanted=$here/realm.json
realm='' gateway='' kcadm=kcadm.sh config=() dry=no changes=0

usage() {
  sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 64
}
while [ $# -gt 0 ]; do
  case $1 in
    --realm) realm=${2:?} && shift 2 ;;
    --gateway) gateway=${2:?} && shift 2 ;;
    --kcadm) kcadm=${2:?} && shift 2 ;;
    --config) config=(--config "${2:?}") && shift 2 ;;
    --dry-run) dry=yes && shift ;;
    *) usage ;;
  esac
done
[ -n "$realm" ] || usage
case $gateway in '' | https://*) ;; *) usage ;; esac
for tool in jq "$kcadm"; do
  command -v "$tool" >/dev/null || { echo "$tool is needed and was not found" >&2; exit 1; }
done

# What kcadm says when all is well is noise.
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
ask() {
  "$kcadm" "$1" "$2" -r "$realm" "${config[@]}" "${@:3}" 2>"$errors" || {
    cat "$errors" >&2
    echo "kcadm $1 $2 failed" >&2
    exit 1
  }
}
# Sends the JSON on stdin.
send() { ask "$1" "$2" -f - "${@:3}" >/dev/null; }
want() { jq -c "$@" "$wanted"; }
say() { printf '%s %s\n' "$1" "$2"; }

# does MARK WHAT: says it, and whether it is to be done.
does() {
  say "$1" "$2"
  [ "$1" != '=' ] || return 1
  changes=$((changes + 1))
  [ "$dry" = no ]
}

# differs WANTED HAVE: whether something that is wanted is otherwise. The order of lists of names does not matter, and
# what Keycloak has beyond it stays.
differs() {
  jq -en --argjson want "$1" --argjson have "$2" '
    def held($w; $h):
      if ($w | type) == "object" then all($w | to_entries[]; . as $e | held($e.value; $h[$e.key]?))
      elif ($w | type) == "array" then ($h | type) == "array" and (($w | sort) == ($h | sort))
      else $w == $h or ($w == false and $h == null) or ($w == "false" and $h == null) end;
    held($want; $have) | not' >/dev/null
}

roles() {
  local have name role
  have=$(ask get roles --fields name)
  while read -r role; do
    name=$(jq -r .name <<<"$role")
    if jq -e --arg name "$name" 'any(.[]; .name == $name)' <<<"$have" >/dev/null; then
      say = "role $name"
    elif does + "role $name"; then
      send create roles <<<"$role"
    fi
  done < <(want '.roles.realm[]')
}

groups() {
  local group name id have role
  while read -r group; do
    name=$(jq -r .name <<<"$group")
    id=$(ask get groups -q "search=$name" -q exact=true | jq -r --arg name "$name" 'map(select(.name == $name))[0].id // ""')
    if [ -n "$id" ]; then
      say = "group $name"
    elif does + "group $name"; then
      jq -c '{name}' <<<"$group" | send create groups
      id=$(ask get groups -q "search=$name" -q exact=true | jq -r --arg name "$name" 'map(select(.name == $name))[0].id')
    fi
    have='[]'
    [ -z "$id" ] || have=$(ask get "groups/$id/role-mappings/realm")
    while read -r role; do
      if jq -e --arg role "$role" 'any(.[]; .name == $role)' <<<"$have" >/dev/null; then
        say = "group $name has role $role"
      elif does + "group $name has role $role"; then
        ask get "roles/$role" | jq -c '[{id, name}]' | send create "groups/$id/role-mappings/realm"
      fi
    done < <(jq -r '.realmRoles[]' <<<"$group")
  done < <(want '.groups[]')
}

id_of_client() { ask get clients -q "clientId=$1" | jq -r '.[0].id // ""'; }

clients() {
  local client name id have
  while read -r client; do
    name=$(jq -r .clientId <<<"$client")
    id=$(id_of_client "$name")
    if [ -z "$id" ]; then
      if does + "client $name"; then
        send create clients <<<"$client"
        id=$(id_of_client "$name")
      fi
    else
      have=$(ask get "clients/$id")
      # Scopes and mappers are changed at places of their own.
      client=$(jq -c 'del(.protocolMappers, .defaultClientScopes, .optionalClientScopes)' <<<"$client")
      if ! differs "$client" "$have"; then
        say = "client $name"
      elif does '~' "client $name"; then
        jq -c --argjson want "$client" '. * $want' <<<"$have" | send update "clients/$id"
      fi
    fi
    [ -z "$id" ] || { mappers "$name" "$id" && scopes "$name" "$id" && reaches "$name" "$id"; }
  done < <(want --arg hears "${gateway:+${gateway%/}/v1/backchannel-logout}" '.clients[]
    | if .clientId == "doorward" and $hears != "" then
        .attributes += {"backchannel.logout.url": $hears, "backchannel.logout.session.required": "true"}
      else . end')
}

mappers() {
  local all have mapper name
  all=$(ask get "clients/$2/protocol-mappers/models")
  while read -r mapper; do
    name=$(jq -r .name <<<"$mapper")
    have=$(jq -c --arg name "$name" 'map(select(.name == $name))[0]' <<<"$all")
    if [ "$have" = null ]; then
      ! does + "client $1: mapper $name" || send create "clients/$2/protocol-mappers/models" <<<"$mapper"
    elif ! differs "$mapper" "$have"; then
      say = "client $1: mapper $name"
    elif does '~' "client $1: mapper $name"; then
      jq -c --argjson want "$mapper" '. * $want' <<<"$have" |
        send update "clients/$2/protocol-mappers/models/$(jq -r .id <<<"$have")"
    fi
  done < <(want --arg client "$1" '.clients[] | select(.clientId == $client) | .protocolMappers // [] | .[]')
}

scopes() {
  local kind have scope id
  for kind in default optional; do
    have=$(ask get "clients/$2/$kind-client-scopes")
    while read -r scope; do
      if jq -e --arg scope "$scope" 'any(.[]; .name == $scope)' <<<"$have" >/dev/null; then
        say = "client $1: $kind scope $scope"
        continue
      fi
      id=$(ask get client-scopes | jq -r --arg scope "$scope" 'map(select(.name == $scope))[0].id // ""')
      if [ -z "$id" ]; then
        say '!' "client $1: the realm has no scope $scope; log-ins may lack what it carries"
      elif does + "client $1: $kind scope $scope"; then
        ask update "clients/$2/$kind-client-scopes/$id" -b '{}' >/dev/null
      fi
    done < <(want -r --arg client "$1" --arg kind "${kind}ClientScopes" \
      '.clients[] | select(.clientId == $client) | .[$kind] // [] | .[]')
  done
}

# Which realm roles the client's tokens may carry.
reaches() {
  local have role
  have=$(ask get "clients/$2/scope-mappings/realm")
  while read -r role; do
    if jq -e --arg role "$role" 'any(.[]; .name == $role)' <<<"$have" >/dev/null; then
      say = "client $1 carries role $role"
    elif does + "client $1 carries role $role"; then
      ask get "roles/$role" | jq -c '[{id, name}]' | send create "clients/$2/scope-mappings/realm"
    fi
  done < <(want -r --arg client "$1" '.scopeMappings[] | select(.client == $client) | .roles[]')
}

roles
groups
clients
if [ "$changes" = 0 ]; then
  echo "nothing to do"
elif [ "$dry" = yes ]; then
  echo "$changes to do"
  exit 2
else
  echo "$changes done"
fi
