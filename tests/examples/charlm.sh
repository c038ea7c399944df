#!/bin/sh
# The character model scores the held-out text as Keras scored it: the whole text as one row, stateful and in
# windows of 32 that start from zeros; and eight rows, stateful.   charlm.sh SCORE CARRY
set -eu
score=$1 carry=$2
charlm=$(dirname "$0")/../../examples/charlm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$carry" convert "$charlm/charlm.keras" "$work/charlm.carry"

bits() { # rows, the way
    "$score" -r "$1" -w 32 -k 1000 -p 1 -t 1 "$work/charlm.carry" "$charlm/charlm.vocab.json" \
        "$charlm/heldout-MPL-2.0.txt" | sed -n "s/^$2 .*[^0-9.]\([0-9]\.[0-9]*\)  *[0-9]*  *[0-9.]*\$/\1/p"
}

expect() { # what it is, Keras' bits per character, carry's
    echo "$1: Keras $2, carry $3 bits per character"
    awk -v a="$2" -v b="$3" 'BEGIN { e = a - b; if (e < 0) e = -e; exit !(a > 1 && b > 1 && e <= 0.0002) }'
}

keras() { sed -n "s/.*\"$1\": \([0-9.]*\),*\$/\1/p" "$charlm/keras-scores.json" | head -n 1; }

expect "one row, stateful" "$(keras stateful)" "$(bits 1 stateful)"
expect "one row, windows of 32" "$(keras 32)" "$(bits 1 windows)"
expect "eight rows, stateful" "$(keras stateful_8_rows)" "$(bits 8 stateful)"

# What generate writes is decided by its seed.
generate() { "$carry" generate "$work/charlm.carry" --vocab "$charlm/charlm.vocab.json" --prompt "This " --length 40 --seed "$1"; }
[ "$(generate 3)" = "$(generate 3)" ]
[ "$(generate 3)" != "$(generate 4)" ]
