#!/bin/sh
# Imports each new nmap file of a folder, and mails what differs from the one before. From /etc/cron.d/driftline, daily:
#   30 6 * * * driftline /usr/local/bin/compare-scans.sh /var/spool/nmap
# An import that was done before changes nothing, so nothing has to be remembered but the name of the last file.
set -eu
cd "${1:?the folder with nmap's XML, whose names sort by time}"
before=$(cat .compared 2>/dev/null || true)
for file in *.xml; do
  [ -e "$file" ] || exit 0
  if [ -n "$before" ] && [ "$(printf '%s\n' "$before" "$file" | sort | head -n 1)" = "$file" ]; then
    continue # it is not newer
  fi
  driftline import nmap --zone "${ZONE:-default}" "./$file" 2>import.log || { cat import.log >&2; exit 1; }
  if [ -n "$before" ]; then
    # As of diff: 0 nothing differs, 1 something does, more is trouble.
    driftline diff --format text "./$before" "./$file" || [ $? -eq 1 ]
  fi
  echo "$file" >.compared
  before=$file
done
