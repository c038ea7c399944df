#!/bin/bash
# Installs what is missing, builds, and runs all tests. Arguments go to cmake: scripts/test.sh -DCARRY_WERROR=ON
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install-packages.sh
cmake --preset release "$@" >build.log.tmp 2>&1 || {
    cat build.log.tmp
    exit 1
}
sed -n '/-- carry [0-9]/,/Configuring/{/Configuring/d;s/^-- //p}' build.log.tmp
rm -f build.log.tmp
cmake --build --preset release
ctest --preset release -j "$(nproc)" --output-on-failure
