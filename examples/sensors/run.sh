#!/bin/sh
# Feeds the character model, converted, to 4096 sensors for ten seconds. Arguments are those of sensors:
#   ./run.sh -s 60 -w 2       CARRY, SENSORS: the two programs; default: of build/release of this tree
set -eu
cd "$(dirname "$0")"
build=../../build/release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${CARRY:-$build/carry}" convert ../charlm/charlm.keras "$work/charlm.carry"
"${SENSORS:-$build/bin/sensors}" "$@" "$work/charlm.carry"
