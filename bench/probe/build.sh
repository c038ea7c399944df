#!/bin/bash
# Builds the programs that measure on a GPU, with the CUDA toolkit alone: build.sh FOLDER [ARCHITECTURES]
#
# FOLDER gets gpu_probe, plain_lstm and, where cudnn.h is, cudnn_lstm. ARCHITECTURES: by default "80 90a": 90a because
# wgmma is in no other. A GPU newer than 9.0 needs its own in the list: 80's PTX, which it would run, has no clusters. A warning fails the build, and so does a spill: a kernel that
# waits for its own stack measures that. Registers and shared memory of every kernel go to FOLDER/objects/*.log.
# NVCC=... names a compiler; CARRY_BUILD_JOBS=n, by default as many as processors.
set -uo pipefail
folder=${1:?usage: build.sh FOLDER [ARCHITECTURES]} architectures=${2:-80 90a}
cd "$(dirname "$0")/../.." || exit
nvcc=${NVCC:-$(command -v nvcc || echo "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc")}
[ -x "$nvcc" ] || { echo "there is no nvcc here"; exit 1; }
mkdir -p "$folder/objects"
gencode=()
for architecture in $architectures; do
    gencode+=(-gencode "arch=compute_$architecture,code=[sm_$architecture,compute_$architecture]")
done
export nvcc folder gencode_list="${gencode[*]}"

# compile SOURCE: its object, if that is older than the source, a header of ours or this script.
compile() {
    local source=$1 object stale
    object=$folder/objects/$(basename "${source%.*}").o
    [ ! -e "$object" ] || stale=$(find "$source" bench kernels/cuda include -newer "$object" \( -path "$source" -o -name '*.h' \
        -o -name '*.cuh' -o -name build.sh \) | head -n 1)
    if [ -e "$object" ] && [ -z "$stale" ] && [ "$(cat "$object.for" 2>/dev/null)" = "$gencode_list" ]; then return; fi
    rm -f "$object"
    # shellcheck disable=SC2086
    "$nvcc" -std=c++17 -O3 $gencode_list -Werror all-warnings -Xcompiler -Wall,-Wextra -Xptxas -v -I. -Iinclude \
        -c "$source" -o "$object" >"$object.log" 2>&1 || { cat "$object.log"; rm -f "$object"; return 1; }
    if grep -E '[1-9][0-9]* bytes spill' "$object.log"; then
        echo "$source: registers are spilled"
        rm -f "$object"
        return 1
    fi
    echo "$gencode_list" >"$object.for"
    echo "compiled $source"
}
export -f compile

probe=(bench/probe/*.cu bench/bench_clock.c)
plain=(bench/vs/gpu/plain_lstm.cu bench/vs/gpu/lstm_reference.c bench/bench_clock.c bench/bench_shapes.c)
cudnn=(bench/vs/gpu/cudnn_lstm.c bench/vs/gpu/lstm_reference.c bench/bench_clock.c bench/bench_shapes.c)
sources=("${probe[@]}" "${plain[@]}")
toolkit=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
has_cudnn=$(ls "$toolkit/include/cudnn.h" /usr/include/cudnn.h 2>/dev/null | head -n 1)
[ -z "$has_cudnn" ] || sources+=("${cudnn[@]}")
printf '%s\n' "${sources[@]}" | sort -u | xargs -P "${CARRY_BUILD_JOBS:-$(nproc)}" -I{} bash -c 'compile {}' || exit 1

# link PROGRAM FLAGS... -- SOURCES...
link() {
    local program=$1 objects=() flags=() source
    shift
    while [ "$1" != -- ]; do flags+=("$1") && shift; done
    shift
    for source in "$@"; do objects+=("$folder/objects/$(basename "${source%.*}").o"); done
    "$nvcc" "${gencode[@]}" "${objects[@]}" "${flags[@]}" -o "$folder/$program" && echo "$folder/$program"
}
link gpu_probe -lcublas -- "${probe[@]}" || exit 1
link plain_lstm -lcublas -- "${plain[@]}" || exit 1
if [ -n "$has_cudnn" ]; then
    link cudnn_lstm -ldl -- "${cudnn[@]}" || exit 1
else
    echo "no cudnn.h: cudnn_lstm is not built"
fi
