#!/bin/bash
# Installs what is missing, builds (only what changed, from the second time on), and shows a character model at
# work: how well it predicts a text it has never seen, with its memory and without, and what it writes.
#   scripts/demo.sh [--device auto|cpu|cuda|cuda:N] [--precision fp32|tf32|bf16|fp16] [--exact] [--small]
# Where a GPU and a CUDA toolkit are, it is built for them and runs there. --small: less text, for an emulated GPU:
#   CARRY_CUDA=emulate scripts/demo.sh --device cuda --small
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

on=() small=
while [ $# -gt 0 ]; do
    case $1 in
    --exact | --device=* | --precision=*) on+=("$1") ;;
    --device | --precision)
        [ $# -ge 2 ] || { echo "demo.sh: $1 needs a value" >&2; exit 2; }
        on+=("$1" "$2")
        shift
        ;;
    --small) small=1 ;;
    *)
        echo "demo.sh: unknown argument $1; see the head of scripts/demo.sh" >&2
        exit 2
        ;;
    esac
    shift
done

# What there is to build for: CARRY_CUDA=OFF, emulate or ON says it; else a GPU with a driver, and a toolkit.
cuda=${CARRY_CUDA:-} missing=
if [ -z "$cuda" ]; then
    cuda=OFF
    nvcc=$(PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin command -v nvcc || true)
    if ! command -v nvidia-smi >/dev/null; then missing="no NVIDIA driver here"
    elif ! nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then missing="the NVIDIA driver shows no GPU"
    elif [ -z "$nvcc" ]; then missing="no CUDA toolkit (nvcc) here to build for the GPU with"
    else cuda=ON
    fi
fi
[ -z "$missing" ] || echo "the GPU backend is not built: $missing"

scripts/install-packages.sh
[ "$cuda" != emulate ] || scripts/cuda-headers.sh
configure() { cmake --preset release -DCARRY_CUDA="$1" >"$log" 2>&1; }
if ! configure "$cuda"; then
    reason=$(sed -n 's/^ *CARRY_CUDA=ON: //p' "$log" | head -n 1)
    if [ "$cuda" != ON ] || [ -n "${CARRY_CUDA:-}" ] || ! configure OFF; then
        cat "$log"
        exit 1
    fi
    echo "the GPU backend is not built: ${reason:-CMake could not configure it, see cmake --preset release -DCARRY_CUDA=ON}"
fi
echo "building"
cmake --build --preset release --target carry_cli charlm_score >"$log" 2>&1 || {
    cat "$log"
    exit 1
}

carry=build/release/carry
example=examples/charlm
model=build/demo/charlm.carry
size=() length=400
if [ -n "$small" ]; then
    size=(--characters 800 --every 4)
    length=60
fi
mkdir -p build/demo
echo "this build and this machine offer:"
"$carry" devices | sed 's/^/  /'
echo
"$carry" convert "$example/charlm.keras" "$model"
cp "$example/charlm.vocab.json" build/demo/charlm.vocab.json
build/release/bin/charlm_score "${size[@]}" "${on[@]}" "$model" "$example/charlm.vocab.json" \
    "$example/heldout-MPL-2.0.txt"
prompt="This License "
echo
echo "and $length characters that it writes after \"$prompt\":"
echo
"$carry" generate "$model" --prompt "$prompt" --length $length --temperature 0.5 --seed 1 "${on[@]}" | fold -s -w 90
