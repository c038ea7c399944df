#!/bin/sh
# Predict the airline series with carry, beside what Keras predicted. Needs no Python.
#   CARRY=path/to/carry ./run.sh        default: build/release/carry of this tree
# Leaves airline.png here if gnuplot is installed. Exit 1 if carry and Keras differ by more than 1e-5.
set -eu
cd "$(dirname "$0")"
carry=${CARRY:-../../build/release/carry}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${CC:-cc}" -std=c11 -O1 -Wall -Wextra -o "$work/table" table.c -lm
# The file says stateful, batch 1: row after row, the memory lives on, as in Keras' predict.
"$carry" run airline.keras --input airline-input.npy --output "$work/Y.npy"

status=0
"$work/table" keras-predictions.csv scale.json "$work/Y.npy" > "$work/table.txt" || status=$?
cat "$work/table.txt"
if [ -s "$work/table.txt" ] && command -v gnuplot > /dev/null; then
    gnuplot -e "data='$work/table.txt'; picture='airline.png'" airline.gp
    echo "plotted in airline.png"
fi
exit $status
