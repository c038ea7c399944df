#!/bin/bash
# Everything that only a GPU can show, in one command and without a network:
#
#   scripts/gpu-check.sh [PART...] [--arch LIST] [--prepared DIR] [--dry-run BUILD]
#
#   prepare      builds for a GPU (--arch "90" or "80 90"; by default this machine's, else 90) and bundles what a
#                bare machine needs into build/gpu-bundle and .tar.gz; done first wherever --prepared does not name a bundle
#   conformance  every function of the dialect, bit for bit against the emulator
#   kernels      every CUDA kernel against plain loops in double
#   suite        the suites of the API on the GPU; a skipped test is a failure
#   sanitizer    compute-sanitizer: memcheck, racecheck, synccheck
#   probe        what barriers, exchanges, launches and memory cost, beside what was expected
#   bench        the scoreboard, beside torch and cuDNN where they are installed (CARRY_BENCH_SECONDS=480 in all)
#   states       many sequences under load: carry bench --states on the GPU
#
# Without a PART: all of them. Each but prepare ends within CARRY_PART_SECONDS (570): a program that hangs is stopped, and
# is a failure. Logs, JSON with the machine's header and a summary lie
# in ${OUT:-build/gpu-check}. Exits 1 if anything failed.
#
#   --prepared DIR   a bundle made elsewhere, the folder or its .tar.gz: no compiler is needed here, only this
#                    source tree
#   --dry-run BUILD  no GPU: the emulated programs of that build, smallest sizes. It tests this script, nothing else.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

parts=() architectures='' bundle=build/gpu-bundle prepared='' dry='' command="scripts/gpu-check.sh $*"
while [ $# -gt 0 ]; do
    case $1 in
    prepare | conformance | kernels | suite | sanitizer | probe | bench | states) parts+=("$1") ;;
    --arch) architectures=${2:?--arch needs a list} && shift ;;
    --prepared) prepared=${2:?--prepared needs a folder} && shift ;;
    --dry-run) dry=${2:?--dry-run needs a build folder} && shift ;;
    *)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0" >&2
        exit 2
        ;;
    esac
    shift
done
out=${OUT:-build/gpu-check}
mkdir -p "$out"
failed=0
[ ${#parts[@]} -gt 0 ] || parts=(conformance kernels suite sanitizer probe bench states)

readonly NOT_RUN=77 # a part's exit status
# The part could not be tried, and why: the last line that a part says counts.
not_run() { echo "not run: $*" && return $NOT_RUN; }
fails() { echo "FAILED: $*" && return 1; }

# limited MOST NAME COMMAND...: within MOST seconds and what is left to its part; a program that hangs fails by name.
readonly part_seconds=${CARRY_PART_SECONDS:-570}
deadline=0 # of the part under way, in SECONDS
limited() {
    local most=$1 name=$2 left=$((deadline - SECONDS)) code=0
    shift 2
    [ $left -ge 1 ] || { fails "$name was not started: the part has had its $part_seconds s" >&2; return 1; }
    [ $left -ge "$most" ] || most=$left
    timeout --kill-after=5 "$most" "$@" || code=$?
    [ $code -ne 124 ] && [ $code -ne 137 ] || fails "$name was stopped after $most s" >&2
    return $code
}

. scripts/gpu-machine.sh

# ---- the parts: each says what it does on stdout; its status is its result ----------------------------------

part_prepare() {
    local build=build/gpu program library size list
    [ -n "$architectures" ] || architectures=$(asked compute_cap | tr -d .)
    [ -n "$architectures" ] || architectures=90
    list=$(tr ' ,' ';;' <<<"$architectures")
    command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] || { fails "there is no nvcc here"; return; }
    echo "building for $architectures"
    cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release -DCARRY_CUDA=ON -DCARRY_CUDA_ARCHITECTURES="$list" \
        -DCARRY_GPU_ARCHITECTURES="$list" >"$out/prepare-cmake.log" 2>&1 ||
        { tail -n 20 "$out/prepare-cmake.log"; fails "cmake, see prepare-cmake.log"; return; }
    cmake --build $build --target dialect_dump gpu_programs gpu_suites bench_gpu bench_states carry_cli >"$out/prepare-build.log" 2>&1 ||
        { tail -n 30 "$out/prepare-build.log"; fails "the build, see prepare-build.log"; return; }
    rm -rf "$bundle"
    mkdir -p "$bundle/bin" "$bundle/lib"
    $build/bin/dialect_dump --write "$bundle/dialect.dump" || { fails "the emulator's dump"; return; }
    find $build/gpu -maxdepth 1 -type f -exec cp {} "$bundle/bin/" \;
    cp $build/bin/bench_gpu $build/bin/bench_states $build/carry "$bundle/bin/"
    while read -r program; do cp "$program" "$bundle/bin/"; done <$build/gpu_suites.txt
    tr ';' '\n' <<<"$(sed 's|.*/||' $build/gpu_suites.txt)" >"$bundle/suites"
    strip "$bundle"/bin/* 2>/dev/null
    # What a bare machine lacks; CUDA's own and the C library's are never bundled.
    for program in "$bundle"/bin/*; do
        ldd "$program" 2>/dev/null | awk '$3 ~ /^\// { print $3 }'
    done | sort -u | grep -vE '/(libc|libm|libresolv|libdl|librt|libpthread|libgcc_s|libstdc\+\+|libcuda|libcudart|libcublas|libcublasLt|libcudnn[a-z_]*|libnv[A-Za-z_-]+|ld-linux[^/]*)\.so' |
        while read -r library; do cp -L "$library" "$bundle/lib/"; done
    git rev-parse --short HEAD >"$bundle/commit" 2>/dev/null
    nvcc --version 2>/dev/null | tail -n 1 >"$bundle/toolkit"
    echo "$architectures" >"$bundle/architectures"
    tar -czf "$bundle.tar.gz" -C "$(dirname "$bundle")" "$(basename "$bundle")" || { fails "tar"; return; }
    size=$(du -m "$bundle.tar.gz" | cut -f1)
    echo "$bundle.tar.gz: $size MiB, $(find "$bundle/bin" -type f | wc -l) programs, $(find "$bundle/lib" -type f | wc -l) libraries"
    [ "$size" -le 48 ] || fails "the bundle has more than 48 MiB"
}

part_conformance() {
    if [ -n "$dry" ]; then
        limited 120 dialect_dump "$dry/bin/dialect_dump" --write "$out/dialect.dump" --schedule 1 &&
            limited 120 dialect_dump "$dry/bin/dialect_dump" --compare "$out/dialect.dump" --schedule 2
        return
    fi
    local need=()
    [ "$(asked compute_cap)" = 9.0 ] && need=(--need-all)
    limited 300 dialect_dump "$bundle/bin/dialect_dump" --compare "$bundle/dialect.dump" --repeat 20 "${need[@]}"
}

part_kernels() {
    local program folder="$bundle/bin" suffix='' found=0 bad=0
    [ -z "$dry" ] || folder="$dry/bin" suffix=_as_on_device
    for program in test_kernels test_cell test_ports test_product test_step test_step_mma; do
        [ -x "$folder/$program$suffix" ] || continue
        found=$((found + 1))
        echo "---- $program"
        EMU_SEED=1 EMU_SCHEDULES=$([ -n "$dry" ] && echo 1 || echo 3) \
            limited 180 "$program" "$folder/$program$suffix" || bad=1
    done
    [ $found -gt 0 ] || { fails "no program of the kernels' tests in $folder"; return; }
    return $bad
}

# suite PROGRAM DEVICE: a Criterion suite, every test of which must run.
suite() {
    local code=0 counts
    CARRY_TEST_DEVICE=$2 limited 180 "$(basename "$1")" "$1" --verbose >"$out/suite-last.log" 2>&1 || code=$?
    counts=$(sed 's/\x1b\[[0-9;]*m//g' "$out/suite-last.log" | sed -n 's/.*Synthesis: *//p' | tail -n 1)
    printf '%-18s %s\n' "$(basename "$1")" "${counts:-no summary}"
    cat "$out/suite-last.log" >>"$out/suite-verbose.log"
    if [ $code -ne 0 ]; then
        grep -E 'FAIL|CRASH|Unexpected' "$out/suite-last.log" | head -n 10
        fails "$(basename "$1") returned $code"
    elif grep -q 'SKIP' "$out/suite-last.log"; then
        grep 'SKIP' "$out/suite-last.log" | head -n 5
        fails "$(basename "$1") skipped tests"
    elif ! grep -Eq 'Tested: *[^0-9]*[1-9]' <<<"$counts"; then
        fails "$(basename "$1") ran no test"
    fi
}

part_suite() {
    local program bad=0
    : >"$out/suite-verbose.log"
    if [ -n "$dry" ]; then
        suite "$dry/bin/test_model" cpu
        return
    fi
    limited 60 bench_gpu "$bundle/bin/bench_gpu" --device cuda --only 128,1,1,1,fp32 --repeats 3 | grep -q '"kind":"result"' ||
        { fails "carry cannot run one step on a CUDA device"; return; }
    # A suite that does not look at the variable would pass on the CPU.
    program=$(head -n 1 "$bundle/suites")
    if CARRY_TEST_DEVICE=no-such-device limited 60 "$program" "$bundle/bin/$program" >/dev/null 2>&1; then
        fails "$program passes on a device that does not exist: it does not look at CARRY_TEST_DEVICE"
        return
    fi
    while read -r program; do suite "$bundle/bin/$program" cuda || bad=1; done <"$bundle/suites"
    return $bad
}

part_sanitizer() {
    local tool sanitizer bad=0
    sanitizer=$(command -v compute-sanitizer || ls "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer" 2>/dev/null)
    [ -z "$dry" ] || { not_run "a dry run has no GPU"; return; }
    [ -n "$sanitizer" ] || { not_run "compute-sanitizer is not installed"; return; }
    for tool in memcheck racecheck synccheck; do
        echo "---- $tool"
        limited 100 "dialect_dump under $tool" "$sanitizer" --tool $tool --error-exitcode 1 \
            "$bundle/bin/dialect_dump" --compare "$bundle/dialect.dump" || bad=1
        EMU_SEED=1 EMU_SCHEDULES=1 limited 100 "test_kernels under $tool" "$sanitizer" --tool $tool --error-exitcode 1 "$bundle/bin/test_kernels" || bad=1
    done
    limited 120 "bench_gpu under memcheck" "$sanitizer" --tool memcheck --error-exitcode 1 "$bundle/bin/bench_gpu" --device cuda --repeats 2 \
        --only 128,4,16,2,fp32 --only 128,4,16,1,bf16 || bad=1
    return $bad
}

part_probe() {
    if [ -n "$dry" ]; then
        EMU_SEED=1 EMU_SCHEDULES=1 limited 120 test_probe "$dry/bin/test_probe"
        return
    fi
    machine_json >"$out/probe.json"
    limited 300 gpu_probe "$bundle/bin/gpu_probe" >>"$out/probe.json"
}

part_bench() {
    local seconds=${CARRY_BENCH_SECONDS:-480} program="$bundle/bin/bench_gpu" bad=0 code
    local -a which=(--device cuda --budget $((seconds / 2)))
    if [ -n "$dry" ]; then
        program="$dry/bin/bench_gpu"
        which=(--device cpu --repeats 3 --only 128,1,1,1,fp32 --only 128,1,16,1,fp32)
    fi
    machine_json >"$out/bench-carry.json"
    limited $((seconds / 2 + 120)) bench_gpu "$program" "${which[@]}" >>"$out/bench-carry.json" || bad=1
    "$program" "${which[@]}" --list >"$out/shapes.txt"
    if command -v python3 >/dev/null; then
        machine_json >"$out/bench-torch.json"
        limited $((seconds / 4 + 60)) torch_lstm.py python3 bench/vs/gpu/torch_lstm.py --shapes "$out/shapes.txt" --budget $((seconds / 4)) >>"$out/bench-torch.json"
        code=$?
        [ $code -eq 0 ] || { rm -f "$out/bench-torch.json"; echo "torch: not measured"; }
        [ $code -eq 0 ] || [ $code -eq $NOT_RUN ] || bad=1
    fi
    if [ -z "$dry" ] && [ -x "$bundle/bin/cudnn_lstm" ]; then
        machine_json >"$out/bench-cudnn.json"
        limited $((seconds / 4 + 60)) cudnn_lstm "$bundle/bin/cudnn_lstm" --shapes "$out/shapes.txt" --budget $((seconds / 4)) >>"$out/bench-cudnn.json"
        code=$?
        [ $code -eq 0 ] || { rm -f "$out/bench-cudnn.json"; echo "cuDNN: not measured"; }
        [ $code -eq 0 ] || [ $code -eq $NOT_RUN ] || bad=1
    fi
    if command -v python3 >/dev/null; then
        python3 bench/vs/report.py --markdown "$out/bench.md" --plot "$out/bench" "$out"/bench-*.json || bad=1
        head -n 40 "$out/bench.md"
    fi
    return $bad
}

part_states() {
    local programs="$bundle/bin" carry="$bundle/bin/carry"
    local -a which=(--device cuda --seconds 0.5 --states 1 --states 64 --states 4096 --states 65536)
    if [ -n "$dry" ]; then
        programs="$dry/bin" carry="$dry/carry"
        which=(--device cpu --seconds 0.05 --deadline-ms 1000 --units 16 --states 4)
    fi
    limited 560 bench_states "$programs/bench_states" --carry "$carry" --out "$out/states" \
        --note "$(asked name), driver $(asked driver_version), commit $(commit)" "${which[@]}" || return
    ! command -v python3 >/dev/null || python3 bench/states_report.py "$out/states.json"
}

# ---- all of it -----------------------------------------------------------------------------------------------

# run PART: its output goes to the screen and to a log; its last words into the summary.
run() {
    local start=$SECONDS code=0 said
    deadline=$((SECONDS + part_seconds))
    echo "==== $1"
    "part_$1" </dev/null 2>&1 | tee "$out/$1.log" || code=$?
    said=$(grep -v '^ *$' "$out/$1.log" | tail -n 1 | cut -c 1-100)
    case $code in
    0) said="ok       $said" ;;
    $NOT_RUN) said="NOT RUN  $said" ;;
    *) said="FAILED   $said" && failed=1 ;;
    esac
    summary+=("$(printf '%-12s %4d s  %s' "$1" $((SECONDS - start)) "$said")")
    return $code
}

summary=()
if [ -n "$prepared" ]; then
    bundle=$prepared
    if [ -f "$prepared" ]; then
        rm -rf "$out/gpu-bundle"
        tar -xzf "$prepared" -C "$out" || exit 1
        bundle=$out/gpu-bundle
    fi
elif [ -z "$dry" ] && [ "${parts[0]}" != prepare ]; then
    parts=(prepare "${parts[@]}")
fi
if [ -z "$dry" ]; then
    folders=$(cuda_folders | paste -sd :)
    export LD_LIBRARY_PATH=$PWD/$bundle/lib${folders:+:$folders}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    [[ $bundle != /* ]] || export LD_LIBRARY_PATH=$bundle/lib${folders:+:$folders}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
machine_json >"$out/machine.json"
for part in "${parts[@]}"; do
    if [ "$part" != prepare ] && [ -z "$dry" ] && ! nvidia-smi >/dev/null 2>&1; then
        summary+=("$(printf '%-12s    0 s  FAILED   there is no GPU here (nvidia-smi finds none)' "$part")")
        failed=1
        continue
    fi
    if ! run "$part" && [ "$part" = prepare ]; then break; fi
done
echo "===="
printf '%s\n' "${summary[@]}" | tee "$out/summary.txt"
exit $failed
