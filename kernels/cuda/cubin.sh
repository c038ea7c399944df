#!/bin/sh
# Compiles one kernel file for one architecture: cubin.sh NVCC SOURCE ARCHITECTURE CUBIN FLAGS...
# A warning of nvcc or ptxas fails it, and so does a spill. Registers and shared memory go to CUBIN.log.
# -fmad=false: bits are promised, so no contraction of a * b + c behind our back, explicit fmaf instead.
set -u
nvcc=$1 source=$2 architecture=$3 cubin=$4
shift 4
"$nvcc" -std=c++17 -O3 -fmad=false "-arch=sm_$architecture" -Werror all-warnings -Xptxas -v,-warn-spills "$@" \
    -MD -MF "$cubin.d" -cubin "$source" -o "$cubin" >"$cubin.log" 2>&1
code=$?
if [ $code -ne 0 ]; then
    cat "$cubin.log"
elif grep -E '[1-9][0-9]* bytes spill' "$cubin.log"; then
    echo "$source for sm_$architecture: registers are spilled"
    code=1
fi
[ $code -eq 0 ] || rm -f "$cubin"
exit $code
