#!/bin/bash
# Holds every #include of src, kernels, bench, examples and the outer tests against the arrow of dependency:
#
#   cli, bench, examples -> <carry/*.h> -> run -> backend.h -> graph -> base
#                 batcher -> <carry/*.h>, base             (a caller of the runtime like any other)
#                 cpu, cuda -> backend.h, graph, base, kernels     (never each other, never run)
#                 import -> graph, base                            (only import.c names the importers)
#                 kernels -> nothing of ours                       (graph may use kernels/activation.h, an enum)
#
# Only backend.c includes a backend's header; only graph, run and import include jansson, only graph xxHash, only import the
# parsers of foreign formats. Unit tests may include what they test.
#   check_includes.sh [TREE]     the tree is this one by default
#   check_includes.sh --self-test
set -euo pipefail
export LC_ALL=C

# Every line is FILE-PATTERN INCLUDED-PATTERN, extended regular expressions over paths in the tree; the first
# pattern that takes the file decides which lines count for it. @ stands for the file's own folder.
rules() {
    cat <<'RULES'
^src/base/             ^(src/base/|include/carry/carry\.h$)
^src/graph/            ^(src/(base|graph)/|include/carry/carry\.h$|kernels/activation\.h$)
^src/backend\.h$       ^(src/(base|graph)/|include/carry/carry\.h$)
^src/backend\.c$       ^(src/(base|graph)/|src/backend\.h$|src/(cpu|cuda)/(cpu|cuda)\.h$|include/carry/carry\.h$)
^src/run/              ^(src/(base|graph|run)/|src/backend\.h$|include/carry/carry\.h$)
^src/batcher/          ^(src/(base|batcher)/|include/carry/carry(_batcher)?\.h$)
^src/cpu/              ^(src/(base|graph|cpu)/|src/backend\.h$|kernels/[^/]*$|kernels/cpu/|include/carry/carry\.h$)
^src/cuda/             ^(src/(base|graph|cuda)/|src/backend\.h$|kernels/[^/]*$|kernels/cuda/|include/carry/carry\.h$)
^src/import/           ^(src/(base|graph|import)/|include/carry/carry(_import)?\.h$|kernels/activation\.h$)
^src/cli/              ^(src/cli/|include/carry/)
^src/                  ^$
^kernels/              ^kernels/
^include/carry/        ^include/carry/
^bench/probe/          ^(bench/|kernels/cuda/)
^bench/vs/gpu/         ^(bench/|include/carry/|kernels/cuda/)
^bench/                ^(bench/|include/carry/)
^examples/             ^(@/|include/carry/)
^tests/cli/            ^(@/|src/cli/|include/carry/)
^tests/cuda/           ^(@/|src/(base|graph|cuda)/|src/backend\.h$|kernels/|include/carry/|tests/(api|emu)/)
^tests/install/        ^(@/|include/carry/)
RULES
}

# Headers of foreign libraries, and who may include them.
foreign() {
    cat <<'RULES'
^jansson\.h$           ^src/(graph|run|import|cli)/
^xxhash\.h$            ^src/graph/
^(hdf5(_hl)?|H5.*)\.h$ ^src/import/
^zip\.h$               ^src/import/
RULES
}

# The importers, as the table of import.c names them: their headers belong to import.c and themselves.
importer='^src/import/(keras|torch|onnx)\.h$'

# The one file that the build makes: the table of importers it has.
generated='src/import/import.c import_table.h'

check() { # the tree
    cd "$1"
    local bad=0 checked file line name target allowed folder candidate i
    local -a from to foreign_name foreign_user files
    while read -r name line; do
        from+=("$name") to+=("$line")
    done < <(rules)
    while read -r name line; do
        foreign_name+=("$name") foreign_user+=("$line")
    done < <(foreign)
    complain() {
        echo "$file: #include $line: $1"
        bad=$((bad + 1))
    }
    mapfile -t files < <(find src kernels include bench examples tests -type f \
        \( -name '*.[ch]' -o -name '*.cc' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) 2>/dev/null | sort)
    checked=${#files[@]}
    while IFS=: read -r file line; do
        line=${line#*include}
        line=${line#"${line%%[! 	]*}"}
        folder=${file%/*}
        allowed=none
        for i in "${!from[@]}"; do
            if [[ $file =~ ${from[i]} ]]; then
                allowed=${to[i]//@/$folder}
                break
            fi
        done
        if ! [[ $line =~ ^[\<\"]([^\>\"]+)[\>\"] ]]; then
            [ "$allowed" = none ] || complain "cannot be followed"
            continue
        fi
        name=${BASH_REMATCH[1]}
        if [[ $name == *..* ]]; then
            complain "a path through .."
            continue
        fi
        target=
        for candidate in "$folder/$name" "src/$name" "$name" "include/$name"; do
            if [ -f "$candidate" ]; then
                target=$candidate
                break
            fi
        done
        if [ -n "$target" ]; then
            if [ "$allowed" != none ] && ! [[ $target =~ $allowed ]]; then
                complain "$target is against the arrow"
            elif [[ $target =~ $importer && $file == src/* && $file != src/import/import.c &&
                    ${file%.*} != "${target%.*}"* ]]; then
                complain "only import.c names the importers"
            fi
        elif [ "$file $name" != "$generated" ]; then
            if [[ $line == \"* && $allowed != none ]]; then complain "no such file in the tree"; fi
            for i in "${!foreign_name[@]}"; do
                if [[ $name =~ ${foreign_name[i]} && $file =~ ^(src|kernels|include)/ &&
                    ! $file =~ ${foreign_user[i]} ]]; then
                    complain "only ${foreign_user[i]#^} may include it"
                fi
            done
        fi
    done < <(grep -HE '^[ 	]*#[ 	]*include' "${files[@]}")
    echo "$checked files, $bad includes against the arrow"
    [ "$checked" -gt 0 ] && [ "$bad" -eq 0 ]
}

self_test() {
    tree=$(mktemp -d "${TMPDIR:-/tmp}/carry-includes.XXXXXX")
    trap 'rm -rf "$tree"' EXIT
    local file line failed=0 count=0
    mkdir -p "$tree"/{src/{base,batcher,graph,run,cpu,cuda,import,cli},kernels/{cpu,cuda},include/carry,bench,examples/{a,b},tests/{api,cli,cuda}}
    for file in include/carry/carry.h include/carry/carry_import.h include/carry/carry_batcher.h src/base/mem.h src/graph/graph.h src/backend.h \
        src/run/model.h src/cpu/cpu.h src/cpu/cpu_threads.h src/cuda/cuda.h src/import/import.h src/import/keras.h \
        src/import/zip_file.h src/cli/args.h tests/api/support.h kernels/activation.h kernels/lstm.h kernels/cpu/table.h kernels/cuda/x.h \
        examples/b/b.h bench/timing.h; do
        : >"$tree/$file"
    done

    expect() { # pass|fail, the file, its includes
        local want=$1 have=pass
        file=$2
        shift 2
        printf '#include %s\n' "$@" >"$tree/$file"
        (check "$tree") >"$tree/log" || have=fail
        if [[ $file == *.h ]]; then : >"$tree/$file"; else rm "$tree/$file"; fi
        count=$((count + 1))
        if [ $want != $have ]; then
            echo "$file with $*: expected $want, got $have"
            cat "$tree/log"
            failed=1
        fi
    }
    expect pass src/base/a.c '"base/mem.h"' '<carry/carry.h>' '<stdio.h>'
    expect fail src/base/a.c '"graph/graph.h"'
    expect fail src/base/a.c '<jansson.h>'
    expect pass src/graph/a.c '"base/mem.h"' '"kernels/activation.h"' '<jansson.h>' '<xxhash.h>'
    expect fail src/run/a.c '<xxhash.h>'
    expect fail src/graph/a.c '"kernels/lstm.h"'
    expect fail src/graph/a.c '"backend.h"'
    expect fail src/graph/a.c '"run/model.h"'
    expect fail src/backend.h '"cpu/cpu.h"'
    expect pass src/backend.c '"cpu/cpu.h"' '"backend.h"'
    expect fail src/backend.c '"cpu/cpu_threads.h"'
    expect pass src/run/a.c '"run/model.h"' '"backend.h"' '"graph/graph.h"' '"base/mem.h"'
    expect fail src/run/a.c '"cpu/cpu.h"'
    expect pass src/batcher/a.c '"base/mem.h"' '<carry/carry_batcher.h>'
    expect fail src/batcher/a.c '"run/model.h"'
    expect fail src/run/a.c '"kernels/lstm.h"'
    expect fail src/run/a.c '"import/import.h"'
    expect fail src/run/a.c '<zip.h>'
    expect pass src/cpu/a.c '"kernels/lstm.h"' '"kernels/cpu/table.h"' '"backend.h"' '"graph/graph.h"'
    expect fail src/cpu/a.c '"run/model.h"'
    expect fail src/cpu/a.c '"cuda/cuda.h"'
    expect fail src/cpu/a.c '"kernels/cuda/x.h"'
    expect fail src/cuda/a.c '"cpu/cpu.h"'
    expect pass src/import/keras.c '"import/keras.h"' '"import/zip_file.h"' '<hdf5.h>' '<zip.h>' '<jansson.h>'
    expect pass src/import/import.c '"import/keras.h"' '<carry/carry_import.h>'
    expect pass src/import/import.c '"import_table.h"'
    expect fail src/import/other.c '"import/keras.h"'
    expect fail src/import/other.c '"import_table.h"'
    expect fail src/import/keras.c '"run/model.h"'
    expect fail src/import/keras.c '"backend.h"'
    expect pass src/cli/a.c '<carry/carry.h>' '<carry/carry_import.h>' '"args.h"'
    expect fail src/cli/a.c '"base/mem.h"'
    expect fail src/cli/a.c '"../graph/graph.h"'
    expect fail src/cli/a.c 'MACRO'
    expect pass kernels/cpu/a.c '"kernels/lstm.h"' '"kernels/activation.h"' '<math.h>'
    expect fail kernels/cpu/a.c '"base/mem.h"'
    expect fail kernels/cpu/a.c '<carry/carry.h>'
    expect fail kernels/cpu/a.c '"kernels/nowhere.h"'
    expect fail include/carry/other.h '"base/mem.h"'
    expect fail bench/a.c '"kernels/lstm.h"'
    expect pass bench/a.c '"bench/timing.h"' '<carry/carry.h>'
    expect fail examples/a/a.c '"examples/b/b.h"'
    expect fail examples/a/a.c '<base/mem.h>'
    expect fail src/stray.c '"base/mem.h"'
    expect fail tests/cli/a.c '"base/mem.h"'
    expect pass tests/cuda/a.c '"tests/api/support.h"' '"cuda/cuda.h"' '"kernels/cuda/x.h"'
    expect fail tests/cuda/a.c '"cpu/cpu.h"'
    echo "self-test: $count cases"
    [ $failed -eq 0 ]
}

if [ "${1:-}" = --self-test ]; then
    self_test
else
    check "${1:-$(dirname "$0")/..}"
fi
