#!/bin/sh
# Hash the passwords of the logins for Caddy, then start Caddy. A changed password file is read at the next start.
set -eu
umask 077
: >/tmp/logins
for file in /run/secrets/*; do
    printf '%s %s\n' "$(basename "$file")" "$({ cat "$file"; echo; } | caddy hash-password)" >>/tmp/logins
done
exec caddy run --config /etc/caddy/Caddyfile --adapter caddyfile
