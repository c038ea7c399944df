#!/bin/bash
# scripts/gpu-probe.sh without a GPU: it checks what it can, says what it could not measure, and notices what is wrong.
#     probe_dry_run.sh BUILD
set -uo pipefail
cd "$(dirname "$0")/../.."
build=$1 failures=0
export OUT=$build/gpu-probe-dry
fail() { echo "FAILED: $*" && failures=$((failures + 1)); }
rm -rf "$OUT"

scripts/gpu-probe.sh --dry-run "$build" >"$build/probe_dry_run.log" 2>&1 || { cat "$build/probe_dry_run.log"; fail "the dry run"; }
grep -q '^emulated .* ok ' "$OUT/summary.txt" || fail "emulated is not ok"
tail -n 1 "$build/probe_dry_run.log" | grep -q '^There is no GPU here: ' || fail "it does not end with the sentence"
grep -q '"kind":"probe"' "$OUT/emulated.json" && fail "a figure without a GPU"
scripts/gpu-probe.sh launch torch --dry-run "$build" >"$build/probe_dry_run.log" 2>&1 || fail "parts that need a GPU are failures"
[ "$(grep -c 'NOT RUN  there is no GPU here' "$OUT/summary.txt")" -eq 2 ] || fail "a part is not NOT RUN"

broken=$build/gpu-probe-broken
mkdir -p "$broken/bin"
printf '#!/bin/sh\necho "launch WRONG: 1" >&2\nexit 1\n' >"$broken/bin/emu_probe"
for program in test_probe test_probe_steps emu_plain_lstm; do printf '#!/bin/sh\nexit 0\n' >"$broken/bin/$program"; done
chmod +x "$broken"/bin/*
OUT=$broken/out scripts/gpu-probe.sh --dry-run "$broken" >/dev/null 2>&1 && fail "a wrong result went well"
scripts/gpu-probe.sh no-such-part >/dev/null 2>&1
[ $? -eq 2 ] || fail "an unknown part is accepted"

# The report, of lines as gpu_probe writes them.
printf '%s\n' '{"kind":"probe","part":"launch","what":"x","unit":"us","median":2,"p10":1,"p90":3,"expected_low":1,"expected_high":1,"ratio":2}' \
    '{"kind":"not_measured","part":"launch","what":"y","reason":"no"}' >"$OUT/lines.json"
if command -v python3 >/dev/null; then
    python3 bench/probe/probe_report.py --plot "$OUT/plot" "$OUT/lines.json" >"$OUT/probe.md" || fail "the report"
    grep -q '^| launch | x | us | 2 | 1 to 3 | 1 | 2.00 |' "$OUT/probe.md" || fail "the table"
    if command -v gnuplot >/dev/null; then (cd "$OUT" && gnuplot plot.gp && [ -s plot.png ]) || fail "the plot"; fi
fi
echo "$failures failures"
[ $failures -eq 0 ]
