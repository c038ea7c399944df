#!/bin/sh
# The character model scores the beginning of the held-out text on CUDA as it does on the CPU, in all three ways and
# with --exact; less precision scores near it; the same seed draws the same text; a word nobody knows is a wrong command line.   charlm_cuda.sh SCORE CARRY
set -eu
score=$1 carry=$2
charlm=$(dirname "$0")/../../examples/charlm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$carry" convert "$charlm/charlm.keras" "$work/charlm.carry"

run() {
    "$score" --rows 8 --chunk 6 --window 8 --every 5 --characters 97 "$@" "$work/charlm.carry" \
        "$charlm/charlm.vocab.json" "$charlm/heldout-MPL-2.0.txt"
}
# bits per character, then rates: of these only the first is the same twice
bits() { run "$@" | sed -n 's/^\(stateful\|windows\|fed again\) .*[^0-9.]\([0-9]\.[0-9]*\)  *[0-9]*  *[0-9.]*$/\2/p'; }

near() { # what it is, the CPU's bits, these bits, tolerance
    echo "$1: the CPU" $2, here $3
    echo $2 $3 | awk -v t="$4" '{ if (NF != 6) exit 1
        for (i = 1; i <= 3; i++) { e = $i - $(i + 3); if (e < -t || e > t || $i < 1) exit 1 } }'
}

cpu=$(bits --device cpu)
run --device cuda | grep -q ' on cuda:0$'
near "cuda" "$cpu" "$(bits --device cuda)" 0.0001
near "exact" "$cpu" "$(bits --device cuda --exact)" 0.0001
near "bf16" "$cpu" "$(bits --device cuda --precision bf16)" 0.02
text() {
    "$carry" generate "$work/charlm.carry" --vocab "$charlm/charlm.vocab.json" --prompt "This License " --length 12 \
        --seed 1 --temperature 0.5 --device "$1"
}
[ "$(text cpu)" = "$(text cuda)" ]
code=0
run --precision fp8 2>"$work/error" || code=$?
[ $code -eq 2 ]
grep -q 'unknown precision fp8' "$work/error"
