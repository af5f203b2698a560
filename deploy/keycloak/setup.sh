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

# The realm's roles, with their identities.
known=''
roles() {
  local name role before=$changes
  known=$(ask get roles --fields id,name)
  while read -r role; do
    name=$(jq -r .name <<<"$role")
    if holds "$name" <<<"$known"; then
      say = "role $name"
    elif does + "role $name"; then
      send create roles <<<"$role"
    fi
  done < <(want '.roles.realm[]')
  [ "$changes" = "$before" ] || known=$(ask get roles --fields id,name)
}

# holds NAME: whether one of the objects on stdin is called so.
holds() { jq -e --arg name "$1" 'any(.[]; .name == $name)' >/dev/null; }

# lend ROLE PLACE: maps the role there.
lend() { jq -c --arg name "$1" 'map(select(.name == $name) | {id, name})' <<<"$known" | send create "$2"; }

groups() {
  local group name id have role
  while read -r group; do
    name=$(jq -r .name <<<"$group")
    id=$(ask get groups -q "search=$name" -q exact=true | jq -r --arg name "$name" 'map(select(.name == $name))[0].id // ""')
    have='[]'
    if [ -n "$id" ]; then
      say = "group $name"
      have=$(ask get "groups/$id/role-mappings/realm")
    elif does + "group $name"; then
      id=$(jq -c '{name}' <<<"$group" | ask create groups -i -f -)
    fi
    while read -r role; do
      if holds "$role" <<<"$have"; then
        say = "group $name has role $role"
      elif does + "group $name has role $role"; then
        lend "$role" "groups/$id/role-mappings/realm"
      fi
    done < <(jq -r '.realmRoles[]' <<<"$group")
  done < <(want '.groups[]')
}

# client NAME: all of it, or nothing.
client() { ask get clients -q "clientId=$1" | jq -c '.[0] // empty'; }

clients() {
  local wanted_one name have
  while read -r wanted_one; do
    name=$(jq -r .clientId <<<"$wanted_one")
    have=$(client "$name")
    if [ -z "$have" ]; then
      if does + "client $name"; then
        send create clients <<<"$wanted_one"
        have=$(client "$name")
      fi
    else
      # Scopes and mappers are changed at places of their own.
      wanted_one=$(jq -c 'del(.protocolMappers, .defaultClientScopes, .optionalClientScopes)' <<<"$wanted_one")
      if ! differs "$wanted_one" "$have"; then
        say = "client $name"
      elif does '~' "client $name"; then
        jq -c --argjson want "$wanted_one" '. * $want' <<<"$have" | send update "clients/$(jq -r .id <<<"$have")"
      fi
    fi
    if [ -n "$have" ]; then
      mappers "$name" "$have"
      scopes "$name" "$have"
      reaches "$name" "$have"
    fi
  done < <(want --arg hears "${gateway:+${gateway%/}/v1/backchannel-logout}" '.clients[]
    | if .clientId == "doorward" and $hears != "" then
        .attributes += {"backchannel.logout.url": $hears, "backchannel.logout.session.required": "true"}
      else . end')
}

mappers() {
  local id have mapper name
  id=$(jq -r .id <<<"$2")
  while read -r mapper; do
    name=$(jq -r .name <<<"$mapper")
    have=$(jq -c --arg name "$name" '.protocolMappers // [] | map(select(.name == $name))[0]' <<<"$2")
    if [ "$have" = null ]; then
      ! does + "client $1: mapper $name" || send create "clients/$id/protocol-mappers/models" <<<"$mapper"
    elif ! differs "$mapper" "$have"; then
      say = "client $1: mapper $name"
    elif does '~' "client $1: mapper $name"; then
      jq -c --argjson want "$mapper" '. * $want' <<<"$have" |
        send update "clients/$id/protocol-mappers/models/$(jq -r .id <<<"$have")"
    fi
  done < <(want --arg client "$1" '.clients[] | select(.clientId == $client) | .protocolMappers // [] | .[]')
}

all_scopes=''
scopes() {
  local kind scope id
  for kind in default optional; do
    while read -r scope; do
      if jq -e --arg scope "$scope" --arg kind "${kind}ClientScopes" '.[$kind] // [] | any(.[]; . == $scope)' \
        <<<"$2" >/dev/null; then
        say = "client $1: $kind scope $scope"
        continue
      fi
      [ -n "$all_scopes" ] || all_scopes=$(ask get client-scopes --fields id,name)
      id=$(jq -r --arg scope "$scope" 'map(select(.name == $scope))[0].id // ""' <<<"$all_scopes")
      if [ -z "$id" ]; then
        say '!' "client $1: the realm has no scope $scope; log-ins may lack what it carries"
      elif does + "client $1: $kind scope $scope"; then
        ask update "clients/$(jq -r .id <<<"$2")/$kind-client-scopes/$id" -b '{}' >/dev/null
      fi
    done < <(want -r --arg client "$1" --arg kind "${kind}ClientScopes" \
      '.clients[] | select(.clientId == $client) | .[$kind] // [] | .[]')
  done
}

# Which realm roles the client's tokens may carry.
reaches() {
  local place roles have role
  place="clients/$(jq -r .id <<<"$2")/scope-mappings/realm"
  roles=$(want -r --arg client "$1" '.scopeMappings[] | select(.client == $client) | .roles[]')
  [ -n "$roles" ] || return 0
  have=$(ask get "$place")
  while read -r role; do
    if holds "$role" <<<"$have"; then
      say = "client $1 carries role $role"
    elif does + "client $1 carries role $role"; then
      lend "$role" "$place"
    fi
  done <<<"$roles"
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
