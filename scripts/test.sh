#!/bin/bash
# Installs what is missing, builds, and runs all tests. Arguments go to cmake: scripts/test.sh -DCARRY_WERROR=ON
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
ctest --preset release -j "$(nproc)" --output-on-failure
