#!/bin/bash
# Installs what is missing, builds, and runs all tests; the CUDA backend in emulation, whether there is a GPU or
# not: scripts/gpu-check.sh tests it on one. Arguments go to cmake: scripts/test.sh -DCARRY_WERROR=ON
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
scripts/install-packages.sh
scripts/cuda-headers.sh || echo "the CUDA backend is not built in emulation and its tests are not run"
cmake --preset release -DCARRY_CUDA=emulate "$@" >"$log" 2>&1 || {
    cat "$log"
    exit 1
}
sed -n 's/^-- CARRY_CUDA=emulate: /CUDA kernels in emulation: /p' "$log"
sed -n '/-- carry [0-9]/,/Configuring/{/Configuring/d;s/^-- //p}' "$log"
cmake --build --preset release
code=0
ctest --preset release -j "$(nproc)" --output-on-failure | tee "$log" || code=1
# ctest's own summary calls a skipped test passed
skipped=$(grep -c '\*\*\*Skipped' "$log" || true)
sed -n 's/.* tests passed, \([0-9]*\) tests\? failed out of \([0-9]*\).*/\1 \2/p' "$log" | {
    read -r failed all
    echo "$((all - failed - skipped)) passed, $failed failed, $skipped skipped"
}
if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
    echo "there is a GPU here, and these tests did not use it: scripts/gpu-check.sh does"
fi
exit $code
