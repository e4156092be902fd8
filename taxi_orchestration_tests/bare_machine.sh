#!/usr/bin/env bash
# `make bare-machine`: `make backfill` and `make test` on a bare Debian 13 as an ordinary user. Needs root, debootstrap.
# The script clones HEAD, and copies pip's configuration and variables and this machine's trusted certificates.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then
    echo 'make bare-machine builds a Debian: run it as root, with debootstrap installed (apt install debootstrap).' >&2
    exit 2
fi

root=$(mktemp -d "${TMPDIR:-/var/tmp}/bare-machine-XXXXXX")
chmod 755 "$root"
inside=
cleanup() {
    # The mounts and processes of $inside are in separate namespaces, which end with it.
    [ -z "$inside" ] || { kill -KILL "$inside" && wait "$inside"; } 2>/dev/null || true
    rm -rf --one-file-system "$root"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' 2>/dev/null | sed -n 1p || true)
debootstrap --variant=minbase --include=python3,python3-venv,make,git,ca-certificates trixie "$root" ${mirror:+"$mirror"}
chroot "$root" useradd --create-home taxi
# --no-local: a clone with hard links would let the chown below change the owner of this checkout's files.
git clone --quiet --no-local . "$root/home/taxi/project"

for path in /etc/pip.conf /etc/xdg/pip /etc/ssl/certs/ca-certificates.crt; do
    if [ -e "$path" ]; then
        mkdir -p "$root${path%/*}"
        cp -rLT "$path" "$root$path"
    fi
done
if [ -e ~/.config/pip ]; then
    mkdir "$root/home/taxi/.config"
    cp -rLT ~/.config/pip "$root/home/taxi/.config/pip"
fi
chroot "$root" chown -R taxi:taxi /home/taxi

variables=(HOME=/home/taxi USER=taxi PATH=/usr/local/bin:/usr/bin:/bin)
for name in $(compgen -e | grep -E '^(PIP_.*|TLC_BASE_URL|SSL_CERT_FILE|REQUESTS_CA_BUNDLE|(https?|no|all)_proxy|(HTTPS?|NO|ALL)_PROXY)$'); do
    variables+=("$name=${!name}")
done

# The init process waits for its own child only, as in many containers: orphaned processes stay zombies.
init='import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))'
unshare --mount --pid --fork --kill-child bash -euc '
    root=$1; shift
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    exec chroot "$root" "$@"
' bash "$root" env -i "${variables[@]}" python3 -c "$init" \
    setpriv --reuid=taxi --regid=taxi --init-groups \
    sh -exc 'cd ~/project; make backfill FROM="$1" TO="$2"; make test' sh "${1:-2024-01}" "${2:-2024-03}" &
inside=$!
wait "$inside"
