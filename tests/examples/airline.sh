#!/bin/sh
# The airline example as its reader runs it, in a copy of its folder.   airline.sh CARRY
set -eu
carry=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$(dirname "$0")/../../examples/airline" "$work/airline"
CARRY=$carry "$work/airline/run.sh" >"$work/table"
tail -n 3 "$work/table"
