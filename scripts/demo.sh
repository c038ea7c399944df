#!/bin/bash
# Installs what is missing, builds (only what changed, from the second time on), and shows a character model at
# work on the CPU: how well it predicts a text it has never seen, with its memory and without, and what it writes.
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
scripts/install-packages.sh
echo "building"
{ cmake --preset release && cmake --build --preset release --target carry_cli charlm_score; } >"$log" 2>&1 || {
    cat "$log"
    exit 1
}
carry=build/release/carry
example=examples/charlm
model=build/demo/charlm.carry
mkdir -p build/demo
echo "running on the CPU ($("$carry" --version | sed -n 's/.*instruction set: *//p')); a GPU would not be used, carry has no CUDA backend yet"
echo
"$carry" convert "$example/charlm.keras" "$model"
cp "$example/charlm.vocab.json" build/demo/charlm.vocab.json
build/release/bin/charlm_score "$model" "$example/charlm.vocab.json" "$example/heldout-MPL-2.0.txt"
prompt="This License "
echo
echo "and 400 characters that it writes after \"$prompt\":"
echo
"$carry" generate "$model" --prompt "$prompt" --length 400 --temperature 0.5 --seed 1 | fold -s -w 90
