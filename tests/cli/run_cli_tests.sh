#!/bin/bash
# Runs one transcript of the command and compares it with what was expected.
#   run_cli_tests.sh CARRY NPY TRANSCRIPT            CARRY, NPY: the programs
#   run_cli_tests.sh --terminal CARRY NPY TRANSCRIPT   with pseudo-terminals; exit 77 where there can be none
#   run_cli_tests.sh --write CARRY NPY TRANSCRIPT    writes the transcript anew: read the difference
#
# A transcript holds comments (#), commands ("$ carry info model.keras") and what they must print: stdout as it
# is, then stderr with "2> " before each line, then "exit N" unless N is 0. All commands of a transcript run in
# one shell, in an empty folder; $golden and $data are the models, `carry` and `npy` the programs. An empty line
# before a comment is for the eye.
set -u
export LC_ALL=C.UTF-8
unset CARRY_ISA
if [ "$1" = --terminal ]; then
    shift
    if ! script -qec true /dev/null >/dev/null 2>&1; then
        # A chroot often has no /dev/pts: this mounts one, seen by the test alone, where that is allowed.
        # Otherwise exit 77, which ctest and scripts/test.sh count as skipped.
        if [ -z "${own_terminals:-}" ]; then
            apart=(unshare --mount --propagation unchanged)
            [ "$(id -u)" -eq 0 ] || apart+=(--map-root-user)
            export own_terminals=1
            # made private first, or the mount would be everybody's
            mount_terminals='mount --make-rprivate /dev && mount -t devpts -o ptmxmode=0666 devpts /dev/pts'
            if "${apart[@]}" sh -c "$mount_terminals" 2>/dev/null; then
                exec "${apart[@]}" sh -c "$mount_terminals"' && exec "$@"' sh "$0" --terminal "$@"
            fi
        fi
        echo "no pseudo-terminals on this machine"
        exit 77
    fi
fi
write=0
[ "$1" = --write ] && write=1 && shift
carry_program=$(realpath "$1") npy_program=$(realpath "$2") transcript=$(realpath "$3")
here=$(dirname "$(realpath "$0")")
golden=${here%/*}/golden data=$here/data
places="s#$golden#\$golden#g; s#$data#\$data#g"
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT

carry() { "$carry_program" "$@"; }
npy() { "$npy_program" "$@"; }

mkdir "$scratch/work"
cd "$scratch/work" || exit 1
_first=1 _before=
while IFS= read -r _line || [ -n "$_line" ]; do
    case $_line in
    '#'*)
        case $_first$_before in 0'$'*) echo ;; esac
        printf '%s\n' "$_line"
        _first=0 _before='#'
        ;;
    '$ '*)
        _first=0 _before='$'
        printf '%s\n' "$_line"
        eval "${_line#??}" >"$scratch/stdout" 2>"$scratch/stderr" </dev/null
        _code=$?
        sed "$places" "$scratch/stdout"
        sed "$places; s/^/2> /" "$scratch/stderr"
        [ $_code -eq 0 ] || echo "exit $_code"
        ;;
    esac
done <"$transcript" >"$scratch/actual"

if [ $write -eq 1 ]; then
    cp "$scratch/actual" "$transcript"
elif ! grep -q '^\$ ' "$scratch/actual"; then
    echo "no commands in $transcript"
    exit 1
else
    diff -u --label expected --label actual "$transcript" "$scratch/actual"
fi
