#!/bin/bash
# Installs what is missing of scripts/packages.txt; says and does nothing when nothing is missing.
#   install-packages.sh        what building, demo and tests need
#   install-packages.sh ci     and what .ci/run needs
set -euo pipefail
list=$(dirname "$0")/packages.txt
wanted=$(awk -v ci="${1:-}" '!/^#/ && NF && (NF == 1 || $2 == ci) {print $1}' "$list")

missing=()
for package in $wanted; do
    # A package may stand behind a virtual name (pkg-config is pkgconf on Ubuntu): what apt would add decides.
    if ! dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed; then
        missing+=("$package")
    fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

sudo=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "missing packages: ${missing[*]}; install them as root, there is no sudo here" >&2
        exit 1
    }
    sudo=(sudo)
fi
apt() { "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@"; }

echo "installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
{ apt update -qq && apt install -y -qq --no-install-recommends "${missing[@]}"; } </dev/null >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    echo "apt-get could not install ${missing[*]}" >&2
    exit 1
}
