#!/bin/bash
# The long runs that CI only takes slices of: random histories of states (tests/soak) and producers that overload the
# batcher (tests/batcher). Builds what they need, runs one after the other, and writes what was done, with commit, machine,
# seeds and times, to tests/soak/results.md. An hour or two on two cores. Exits 1 if anything failed or was cut short.
#
#   scripts/soak.sh [RUN...] [--seed N] [--seconds S] [--note TEXT]
#
#   address    10^6 operations on the CPU under the address and undefined sanitizers
#   threads    10^5 operations on the CPU by 4 threads under the thread sanitizer
#   emulated   10^4 operations on emulated CUDA, exact
#   both       10^3 operations on emulated CUDA, exact, by 2 threads under the thread sanitizer
#   stress     8 producers against the batcher for a minute, 4096 states
#
# Without a RUN: all of them. A RUN's line replaces its older one and leaves the others. --seconds ends each history after
# so long, whatever it has done; the count in the table is what it did. --note: what else the machine was doing.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

all=(address threads emulated both stress)
runs=() seed=1 seconds=1000000 note=''
while [ $# -gt 0 ]; do
    case $1 in
    address | threads | emulated | both | stress) runs+=("$1") ;;
    --seed) seed=${2:?--seed needs a number} && shift ;;
    --seconds) seconds=${2:?--seconds needs a number} && shift ;;
    --note) note=${2:?--note needs a text} && shift ;;
    *)
        echo "soak.sh: unknown argument $1; see the head of scripts/soak.sh" >&2
        exit 2
        ;;
    esac
    shift
done
[ ${#runs[@]} -gt 0 ] || runs=("${all[@]}")

results=tests/soak/results.md
lines=build/soak # one file a run: its line of the table
log=$(mktemp)
trap 'rm -f "$log"' EXIT
mkdir -p "$lines"
code=0

commit() { # and whether anything but the results is changed since
    git rev-parse --short=9 HEAD 2>/dev/null || echo unknown
    git diff --quiet HEAD -- . ":!$results" 2>/dev/null || echo "and changes"
}

build() { # preset, program
    if cmake --preset "$1" -DCARRY_CUDA=emulate >"$log" 2>&1 &&
        cmake --build --preset "$1" --target "$2" >"$log" 2>&1; then return; fi
    tail -n 30 "$log"
    return 1
}

measure() { # run, what it is, preset, program, operations wanted of it, its arguments...
    local run=$1 what=$2 preset=$3 program=$4 wanted=$5 outcome=ok did begun at wrapper=()
    shift 5
    at=$(commit | xargs)
    [ "$preset" = release ] || wrapper=(tests/sanitized.sh "build/$preset/reports/soak-$run")
    echo "==== $run: $what"
    if ! build "$preset" "$program"; then outcome="**not built**"; fi
    begun=$SECONDS
    if [ "$outcome" = ok ]; then
        "${wrapper[@]}" "build/$preset/bin/$program" "$@" >"$log" 2>&1 || outcome="**FAILED**"
        tail -n 20 "$log"
    fi
    # the last line says how far it came, and of a history's the beginning is known
    did=$(sed -n 's/^history: \([0-9]*\) operations.*/\1/p' "$log" | tail -n 1)
    if [ "$outcome" = ok ] && [ "${did:-0}" -lt "$wanted" ]; then outcome="**cut short**, $wanted wanted"; fi
    [ "$outcome" = ok ] || code=1
    echo "| $run | $what | $(echo "$program $*" | sed 's/ *$//') | $((SECONDS - begun)) | $at | $(date -u +%F) |" \
        "$outcome | $(tail -n 1 "$log") |" >"$lines/$run"
}

history() { # run, what, preset, operations, arguments...
    local run=$1 what=$2 preset=$3 wanted=$4
    shift 4
    local limit=()
    [ "$seconds" = 1000000 ] || limit=(--seconds "$seconds")
    measure "$run" "$what" "$preset" history "$wanted" --operations "$wanted" --seed "$seed" "$@" "${limit[@]}"
}

# Lines of runs that are not run now are kept.
for run in "${all[@]}"; do
    [ ! -f "$results" ] || grep "^| $run |" "$results" >"$lines/$run"
done

scripts/cuda-headers.sh || exit
for run in "${runs[@]}"; do
    case $run in
    address) history address "CPU, address and undefined sanitizers, gcc" asan-ubsan 1000000 ;;
    threads) history threads "CPU, thread sanitizer, clang" tsan 100000 --threads 4 ;;
    emulated) history emulated "emulated CUDA, exact, release, gcc" release 10000 --device cuda --begin 2000 ;;
    both) history both "emulated CUDA, exact, thread sanitizer, clang" tsan 1000 --device cuda --threads 2 --begin 1000 ;;
    stress) CARRY_STRESS_SECONDS=60 measure stress "CPU, batcher overloaded, release, gcc" release batcher_stress 0 ;;
    esac
done

{
    echo "# What the long runs have done"
    echo
    echo "Written by \`scripts/soak.sh\`; how long they take says little, for other work may share the machine."
    echo
    echo "$(nproc) cores, $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1), $(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release)${note:+; $note}"
    echo
    echo "| run | what | command | seconds | commit | date | outcome | its last line |"
    echo "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for run in "${all[@]}"; do
        [ ! -s "$lines/$run" ] || cat "$lines/$run"
    done
} >"$results.new" && mv "$results.new" "$results"
echo
cat "$results"
exit $code
