#!/bin/sh
# NetBox's addresses and prefixes into Driftline's inventory. From /etc/cron.d/driftline, every hour:
#   17 * * * * driftline NETBOX_URL=https://netbox.example.org NETBOX_HEADER_FILE=/etc/driftline/netbox.header /usr/local/bin/sync-netbox.sh
# The header file holds one line, "Authorization: Token …", and is readable by this user alone: an argument would show in the list of processes.
# Cron mails what goes wrong: a list that is not whole (exit code 2), or a source that lost more than a fifth of its members (4).
set -eu
: "${NETBOX_URL:?}" "${NETBOX_HEADER_FILE:?}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for list in ipam/ip-addresses ipam/prefixes; do
  page=0
  while :; do
    file="$work/$(basename "$list").$page.json"
    curl --fail --silent --show-error --max-time 120 --header "@$NETBOX_HEADER_FILE" --output "$file" \
      "$NETBOX_URL/api/$list/?limit=500&offset=$((page * 500))"
    grep -q '"next": *null' "$file" && break
    page=$((page + 1))
    [ "$page" -lt 2000 ] || { echo "NetBox's list $list does not end" >&2; exit 1; }
  done
done
driftline targets sync --source netbox "$work"/*.json
