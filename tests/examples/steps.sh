#!/bin/sh
# examples/c/steps against Keras: the airline model was asked with windows of three months, one call after the
# other, its memory living on; fed the same months one at a time, every third answer must be Keras' prediction.
#   steps.sh STEPS CARRY
set -eu
steps=$1 carry=$2
airline=$(dirname "$0")/../../examples/airline
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$carry" convert "$airline/airline.keras" "$work/airline.carry"

# passengers, scaled as scale.json says, in overlapping windows of three
awk -F, 'NR == FNR { gsub(/[^0-9,]/, ""); split($0, s, ","); low = s[1]; high = s[2]; next }
         FNR > 1 { v[++n] = ($2 - low) / (high - low) }
         END { for (i = 1; i + 3 <= n; i++) printf "%.9g %.9g %.9g\n", v[i], v[i + 1], v[i + 2] }' \
    "$airline/scale.json" "$airline/airline.csv" | "$steps" "$work/airline.carry" >"$work/answers"

awk -F, 'FILENAME ~ /scale/ { gsub(/[^0-9,]/, ""); split($0, s, ","); low = s[1]; span = s[2] - s[1]; next }
         FILENAME ~ /answers/ { if (FNR % 3 == 0) y[++n] = $1 * span + low; next }
         FNR > 1 { e = y[++m] - $4; if (e < 0) e = -e; if (e > worst) worst = e }
         END { printf "%d answers, largest difference from Keras %.6f thousand passengers\n", n, worst
               exit !(n == m && n == 141 && worst < 0.005) }' \
    "$airline/scale.json" "$work/answers" "$airline/keras-predictions.csv"

# What the runtime cannot open ends in a sentence and exit 1.
if "$steps" "$airline/airline.keras" </dev/null 2>"$work/error"; then
    echo "a .keras file was opened by the runtime"
    exit 1
fi
test -s "$work/error"
