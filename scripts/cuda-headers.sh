#!/bin/bash
# Where no CUDA toolkit of 12.4 or newer is installed, gets its headers into build/cuda-headers, where CMake
# looks last: CARRY_CUDA=emulate needs no more of CUDA. Three Python wheels are downloaded and unpacked, nothing
# is installed. Fails with one line if it cannot; --always: even where there is a toolkit.
set -euo pipefail
cd "$(dirname "$0")/.."
target=build/cuda-headers

recent() { # the folder of a toolkit
    local version
    version=$(sed -n 's/^#define CUDART_VERSION *\([0-9]*\).*/\1/p' "$1/include/cuda_runtime_api.h" 2>/dev/null) || true
    [ "${version:-0}" -ge 12040 ]
}

[ ! -e $target/include/cuda_runtime_api.h ] || exit 0
if [ "${1:-}" != --always ]; then
    nvcc=$(command -v nvcc || true)
    if [ -n "$nvcc" ]; then nvcc=$(dirname "$(dirname "$(readlink -f "$nvcc")")"); fi
    for toolkit in "$nvcc" "${CUDA_HOME:-}" "${CUDA_PATH:-}" /usr/local/cuda /usr; do
        [ -z "$toolkit" ] || ! recent "$toolkit" || exit 0
    done
fi

mkdir -p build
work=$(mktemp -d build/cuda-headers.XXXXXX)
trap 'rm -rf "$work"' EXIT
python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    -d "$work" -r scripts/requirements-cuda-headers.txt >"$work/log" 2>&1 || {
    echo "no CUDA headers: pip could not download them: $(grep -v '^ *$' "$work/log" | tail -n 1)"
    exit 1
}
for wheel in "$work"/*.whl; do
    python3 -m zipfile -e "$wheel" "$work/wheels"
done
mkdir "$work/ready"
mv "$work"/wheels/nvidia/*/include "$work/ready/include"
[ -e "$work/ready/include/crt/host_defines.h" ] && [ -e "$work/ready/include/nv/target" ] || {
    echo "no CUDA headers: the wheels do not hold them where they did"
    exit 1
}
rm -rf $target
mv "$work/ready" $target
echo "CUDA headers for the emulation: $target"
