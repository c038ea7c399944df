#!/bin/bash
# scripts/gpu-check.sh without a GPU: every part goes as far as emulation does, and a failure is a failure.
#     dry_run.sh BUILD
set -uo pipefail
cd "$(dirname "$0")/../.."
build=$1
export OUT=$build/gpu-check-dry
failures=0
fail() { echo "FAILED: $*" && failures=$((failures + 1)); }
rm -rf "$OUT"

scripts/gpu-check.sh --dry-run "$build" >"$build/dry_run.log" 2>&1 || { cat "$build/dry_run.log"; fail "the dry run"; }
for part in conformance kernels suite probe bench states; do
    grep -q "^$part  *[0-9]* s  ok " "$OUT/summary.txt" || fail "$part is not ok in the summary"
done
grep -q '^sanitizer .*NOT RUN' "$OUT/summary.txt" || fail "the sanitizer is not 'not run'"
grep -q '"dry_run":true' "$OUT/machine.json" || fail "machine.json"
grep -q '"kind":"result"' "$OUT/bench-carry.json" || fail "no result of the bench"
grep -q '^| *128 ' "$OUT/bench.md" || fail "no table"
grep -q '^| *4 *| *batcher ' "$OUT/states.log" || fail "no table of many states"

# A broken program is noticed: its part fails, the others go on, and so does the script.
broken=$build/gpu-check-broken
rm -rf "$broken"
mkdir -p "$broken/bin"
printf '#!/bin/sh\nexit 3\n' >"$broken/bin/dialect_dump"
printf '#!/bin/sh\necho "[SKIP] a::b: no device"\necho "[====] Synthesis: Tested: 1 | Passing: 1 | Failing: 0 | Crashing: 0"\n' >"$broken/bin/test_model"
chmod +x "$broken"/bin/*
OUT=$broken/out scripts/gpu-check.sh conformance kernels suite --dry-run "$broken" >"$build/dry_run.log" 2>&1 &&
    fail "a dry run of broken programs went well"
for part in conformance kernels suite; do
    grep -q "^$part  *[0-9]* s  FAILED" "$broken/out/summary.txt" || fail "a broken $part is not FAILED in the summary"
done
grep -q 'skipped tests' "$broken/out/summary.txt" || fail "a skipped test counts as passed"

# A program that hangs is stopped and named, and so is the one behind it, for which the part has no time left.
printf '#!/bin/sh\nexec sleep 1000\n' | tee "$broken/bin/test_model" >"$broken/bin/test_kernels_as_on_device"
printf '#!/bin/sh\nexit 0\n' >"$broken/bin/test_cell_as_on_device"
chmod +x "$broken"/bin/*
CARRY_PART_SECONDS=2 OUT=$broken/out scripts/gpu-check.sh kernels suite --dry-run "$broken" >"$build/dry_run.log" 2>&1 &&
    fail "a dry run of hanging programs went well"
for said in 'test_kernels was stopped after [12] s' 'test_cell was not started' 'test_model was stopped after [12] s'; do
    grep -q "^FAILED: $said" "$build/dry_run.log" || fail "it does not say: $said"
done

# Without a GPU every part of a real run fails, and says why.
if ! nvidia-smi >/dev/null 2>&1; then
    OUT=$broken/out scripts/gpu-check.sh conformance --prepared "$broken" >"$build/dry_run.log" 2>&1 &&
        fail "a run without a GPU went well"
    grep -q 'conformance .*FAILED *there is no GPU' "$broken/out/summary.txt" || fail "it does not say that there is no GPU"
fi
scripts/gpu-check.sh no-such-part >/dev/null 2>&1
[ $? -eq 2 ] || fail "an unknown part is accepted"
echo "$failures failures"
[ $failures -eq 0 ]
