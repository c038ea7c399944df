#!/bin/bash
# What a GPU's parts cost, and what its peers do on it, in one command and without a network:
#
#   scripts/gpu-probe.sh [PART...] [--arch LIST] [--prepared DIR] [--dry-run BUILD]
#
#   prepare      builds for a GPU with the toolkit alone (--arch "80 90a") and bundles the programs into
#                build/probe-bundle and .tar.gz; done first wherever --prepared does not name a bundle
#   emulated     every kernel that the emulator can run, against the host's computation (needs no GPU)
#   launch, barriers, clusters, memory, arithmetic, recurrent, grid         gpu_probe's parts, each under a minute
#   plain, cudnn, torch, onnxruntime    the peers, each of CARRY_PEER_SECONDS (120); one that fails says why
#   report       tables and plots of what is there
#
# Without a PART: all that this machine can. On a GPU, JSON with the machine's header, tables and plots lie in
# bench/results/MACHINE-DATE (OUT=... for another folder). Where there is no GPU, it builds, runs `emulated`, says what
# it could not measure, and writes nothing there. Exits 1 if something was wrong, not because something was missing.
#
#   --prepared DIR   a bundle made elsewhere, the folder or its .tar.gz: no compiler is needed here, only this
#                    source tree
#   --dry-run BUILD  no GPU even if there is one: the emulated programs of that build, smallest sizes
set -uo pipefail
cd "$(dirname "$0")/.." || exit

parts=() architectures='80 90a' bundle=build/probe-bundle prepared='' dry='' command="scripts/gpu-probe.sh $*"
readonly measures='launch barriers clusters memory arithmetic recurrent grid' peers='plain cudnn torch onnxruntime'
while [ $# -gt 0 ]; do
    case $1 in
    prepare | emulated | report) parts+=("$1") ;;
    --arch) architectures=${2:?--arch needs a list} && shift ;;
    --prepared) prepared=${2:?--prepared needs a folder} && shift ;;
    --dry-run) dry=${2:?--dry-run needs a build folder} && shift ;;
    *)
        if [[ " $measures $peers " != *" $1 "* ]]; then
            sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0" >&2
            exit 2
        fi
        parts+=("$1")
        ;;
    esac
    shift
done

readonly NOT_RUN=77 # a part's exit status
not_run() { echo "not run: $*" && return $NOT_RUN; }
. scripts/gpu-machine.sh

has_gpu() { [ -z "$dry" ] && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }

# ---- the parts: each says what it does on stdout; its status is its result ----------------------------------------

part_prepare() {
    local build=build/probe nvcc
    nvcc=$(command -v nvcc || ls "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" 2>/dev/null)
    [ -n "$nvcc" ] || { not_run "there is no nvcc here, so nothing was built for a GPU"; return; }
    NVCC=$nvcc bench/probe/build.sh $build "$architectures" || return
    rm -rf "$bundle"
    mkdir -p "$bundle"
    cp $build/gpu_probe $build/plain_lstm "$bundle/"
    [ ! -e $build/cudnn_lstm ] || cp $build/cudnn_lstm "$bundle/"
    strip "$bundle"/* 2>/dev/null
    git rev-parse --short HEAD >"$bundle/commit" 2>/dev/null
    "$nvcc" --version | tail -n 1 >"$bundle/toolkit"
    tar -czf "$bundle.tar.gz" -C "$(dirname "$bundle")" "$(basename "$bundle")" || return
    echo "$bundle.tar.gz: $(du -k "$bundle.tar.gz" | cut -f1) KiB, for $architectures"
}

part_emulated() {
    local build=${dry:-build/release} bad=0
    if [ -z "$dry" ]; then
        { cmake --preset release -DCARRY_CUDA=emulate && cmake --build $build --target emu_probe emu_plain_lstm test_probe test_probe_steps; } \
            >"$out/emulated-build.log" 2>&1 ||
            { not_run "carry is not built here, so no kernel ran in emulation (scripts/test.sh installs what that needs)"; return; }
    fi
    { machine_json && "$build/bin/emu_probe"; } >"$out/emulated.json" 2>"$out/emulated.txt" || bad=1
    grep -E 'WRONG' "$out/emulated.txt"
    sed -n 's/ *not measured: not emulated.*//p' "$out/emulated.txt" | sed 's/^/compiled only, not run here: /' | sort -u
    export EMU_SEED=1 EMU_SCHEDULES=2
    "$build/bin/test_probe" && "$build/bin/test_probe_steps" || bad=1
    "$build/bin/emu_plain_lstm" --check || bad=1
    grep 'results compared' "$out/emulated.txt"
    return $bad
}

measure() { # PART
    machine_json >"$out/$1.json"
    local code=0
    timeout 60 "$bundle/gpu_probe" "$1" >>"$out/$1.json" || code=$?
    [ $code -ne 124 ] || echo "$1 was stopped: a part has a minute"
    return $code
}

# peer NAME COMMAND...: its lines of JSON behind the machine's; what it could not do is a sentence, not a failure.
peer() {
    local name=$1 code=0
    shift
    machine_json >"$out/$name.json"
    timeout $((${CARRY_PEER_SECONDS:-120} + 60)) "$@" >>"$out/$name.json" || code=$?
    if [ $code -eq $NOT_RUN ]; then
        rm -f "$out/$name.json"
        not_run "$name says that it cannot run here (above)"
    elif grep -q WRONG "$out/$name.json"; then
        echo "WRONG outputs of $name: $(grep -c WRONG "$out/$name.json") shapes"
        return 1
    elif [ $code -ne 0 ]; then
        not_run "$name ended with status $code after $(grep -c '"kind":"result"\|"kind": "result"' "$out/$name.json") results"
    else
        echo "$(grep -c '"kind": *"result"' "$out/$name.json") results of $name"
    fi
}

part_plain() { peer plain "$bundle/plain_lstm" "${which[@]}"; }
part_cudnn() {
    [ -x "$bundle/cudnn_lstm" ] || { not_run "cudnn_lstm is not in the bundle: there was no cudnn.h"; return; }
    peer cudnn "$bundle/cudnn_lstm" "${which[@]}"
}
python_peer() {
    command -v python3 >/dev/null || { not_run "there is no python3 here"; return; }
    peer "$1" python3 "bench/vs/gpu/$1_lstm.py" "${which[@]}"
}
part_torch() { python_peer torch; }
part_onnxruntime() { python_peer onnxruntime; }

part_report() {
    local measured=() compared=() part
    command -v python3 >/dev/null || { not_run "there is no python3 here; the tables of gpu_probe are in $out/*.log"; return; }
    for part in $measures; do [ ! -e "$out/$part.json" ] || measured+=("$out/$part.json"); done
    for part in $peers; do [ ! -e "$out/$part.json" ] || compared+=("$out/$part.json"); done
    if [ ${#measured[@]} -gt 0 ]; then
        python3 bench/probe/probe_report.py --markdown "$out/probe.md" --plot "$out/probe" "${measured[@]}" || return
    fi
    if [ ${#compared[@]} -gt 0 ] && grep -q '"kind": *"result"' "${compared[@]}"; then
        python3 bench/vs/report.py --markdown "$out/peers.md" --plot "$out/peers" "${compared[@]}" || return
    fi
    if command -v gnuplot >/dev/null; then
        (cd "$out" && for plot in *.gp; do [ ! -e "$plot" ] || gnuplot "$plot" || exit 1; done) || return
    fi
    echo "tables and plots in $out"
}

# ---- all of it -----------------------------------------------------------------------------------------------------

run() { # PART: its output goes to the screen and to a log; its last words into the summary.
    local start=$SECONDS code=0 said
    echo "==== $1"
    if [[ " $measures " == *" $1 "* ]]; then
        measure "$1" </dev/null 2>&1 | tee "$out/$1.log" || code=$?
    else
        "part_$1" </dev/null 2>&1 | tee "$out/$1.log" || code=$?
    fi
    said=$(grep -v '^ *$' "$out/$1.log" | tail -n 1 | cut -c 1-110)
    case $code in
    0) said="ok       $said" ;;
    $NOT_RUN) said="NOT RUN  $said" ;;
    *) said="FAILED   $said" && failed=1 ;;
    esac
    summary+=("$(printf '%-12s %4d s  %s' "$1" $((SECONDS - start)) "$said")")
}

failed=0 summary=()
if has_gpu; then
    name=$(asked name | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-')
    out=${OUT:-bench/results/$name-$(date -u +%Y-%m-%d)}
else
    out=${OUT:-build/gpu-probe}
fi
mkdir -p "$out"
# The scoreboard in order of importance; what the time does not reach is listed as not run.
shapes=$out/shapes.txt
[ ! -x "$bundle/plain_lstm" ] || "$bundle/plain_lstm" --list >"$shapes"
which=(--shapes "$shapes" --budget "${CARRY_PEER_SECONDS:-120}")
if [ ${#parts[@]} -eq 0 ]; then
    parts=(emulated)
    # shellcheck disable=SC2206
    if has_gpu; then parts=($measures $peers report); fi
fi
if [ -n "$prepared" ]; then
    bundle=$prepared
    if [ -f "$prepared" ]; then
        rm -rf build/probe-bundle
        mkdir -p build
        tar -xzf "$prepared" -C build || exit 1
        bundle=build/probe-bundle
    fi
elif [ -z "$dry" ] && [[ " ${parts[*]} " != *' prepare '* ]]; then
    parts=(prepare "${parts[@]}")
fi
folders=$(cuda_folders | paste -sd :)
export LD_LIBRARY_PATH=${folders}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
machine_json >"$out/machine.json"
for part in "${parts[@]}"; do
    if [[ " $measures $peers " == *" $part "* ]] && ! has_gpu; then
        summary+=("$(printf '%-12s    0 s  NOT RUN  there is no GPU here' "$part")")
        continue
    fi
    run "$part"
    [ "$part" != prepare ] || [ $failed -eq 0 ] || break
done
echo "===="
printf '%s\n' "${summary[@]}" | tee "$out/summary.txt"
if ! has_gpu; then
    echo "There is no GPU here: $(wc -w <<<"$measures") parts ($measures) and the peers ($peers) were not measured."
fi
exit $failed
