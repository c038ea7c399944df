#!/bin/bash
# The shared and the static libraries offer exactly the functions that the headers declare CARRY_API, and the
# runtime needs no parser of a foreign format.   check_symbols.sh LIBRARY_DIR
set -euo pipefail
export LC_ALL=C
libraries=$1
include=$(dirname "$0")/../include/carry
failed=0

# Names declared CARRY_API: comments and preprocessor lines away, one declaration a line.
declared() { # headers
    sed -e 's|//.*||' "$@" | tr '\n' '\001' | sed -e 's|/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/||g' |
        tr '\001' '\n' | grep -v '^ *#' | tr '\n' ' ' | tr ';{}' '\n' |
        sed -n 's/.*CARRY_API[^(]*[ *]\(carry_[a-z0-9_]*\) *(.*/\1/p' | sort
}

compare() { # what it is, the names offered, its headers
    local want have what=$1
    have=$(sort <<<"$2")
    shift 2
    want=$(declared "$@")
    [ -n "$want" ] || { echo "$* declare nothing"; failed=1; return; }
    if [ "$want" != "$have" ]; then
        echo "$what does not offer what $* declare (< declared, > offered):"
        diff <(echo "$want") <(echo "$have") || true
        failed=1
    else
        echo "$what: $(echo "$want" | wc -l) functions, as declared"
    fi
}

shared() { nm -D --defined-only "$1" | awk '!($2 == "A" && $3 ~ /^CARRY_/) {sub(/@.*/, "", $3); print $3}'; }
static() { nm -g --defined-only "$1" 2>/dev/null | awk 'NF == 3 {print $3}'; }

for name in carry carry_import; do
    headers=("$include/$name.h")
    if [ $name = carry ]; then headers+=("$include/carry_batcher.h"); fi
    compare "lib$name.so" "$(shared "$libraries/lib$name.so")" "${headers[@]}"
    compare "lib$name.a" "$(static "$libraries/lib$name.a")" "${headers[@]}"
    soname=$(readelf -d "$libraries/lib$name.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
    if [ "$soname" != "lib$name.so.0" ]; then
        echo "lib$name.so has the SONAME '$soname', expected lib$name.so.0"
        failed=1
    fi
done
if readelf -d "$libraries/libcarry.so" | grep NEEDED | grep -E 'hdf5|libzip|protobuf|carry_import'; then
    echo "libcarry.so needs a library that only the importers may need"
    failed=1
fi
exit $failed
