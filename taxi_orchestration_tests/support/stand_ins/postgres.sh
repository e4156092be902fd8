#!/usr/bin/env bash
# What the image `postgres` does at its first start, as far as deploy/ relies on it: a cluster whose superuser has the
# password of POSTGRES_PASSWORD_FILE, and that takes logins with a password from everywhere; from within the container
# it asks for none.
set -euo pipefail
data=${PGDATA:-/var/lib/postgresql/18/docker}
mkdir -p "$data" && chown postgres "$data"
if [ ! -s "$data/PG_VERSION" ]; then
    install -m 600 -o postgres "${POSTGRES_PASSWORD_FILE:?}" /tmp/password
    setpriv --reuid=postgres --regid=postgres --clear-groups \
        initdb --pgdata "$data" --username postgres --auth trust --pwfile /tmp/password
    rm /tmp/password
    echo 'host all all all scram-sha-256' >>"$data/pg_hba.conf"
fi
shift
exec setpriv --reuid=postgres --regid=postgres --clear-groups \
    postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
