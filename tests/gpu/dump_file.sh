#!/bin/bash
# dialect_dump in emulation: what one schedule writes another agrees with, and a damaged or changed file fails.
#     dump_file.sh DIALECT_DUMP FOLDER
set -uo pipefail
program=$1 folder=$2
file=$folder/dialect.dump
failures=0
expect() { # CODE WORDS COMMAND...
    local code=$1 words=$2 output
    shift 2
    output=$("$@" 2>&1)
    local got=$?
    if [ $got -ne "$code" ] || ! grep -q -- "$words" <<<"$output"; then
        echo "FAILED: $* gave $got, expected $code and '$words':"
        echo "$output"
        failures=$((failures + 1))
    fi
}

expect 0 '' "$program" --write "$file" --schedule 1
expect 0 ' agree, 0 do not, 0 not run' "$program" --compare "$file" --schedule 2 --repeat 2 --need-all
expect 0 "of 'exact'" "$program" --compare "$file"
expect 1 'cannot be read' "$program" --compare "$file.none"

# One word of one case.
awk '/ mma_bf16$/ { here = 1 } here && !/case/ { sub(/^[0-9a-f]+/, "deadbeef"); here = 0 } { print }' "$file" >"$file.changed"
expect 1 '^mma_bf16 *DIFFERS *1 of 128 words, first 0: [0-9a-f]*, expected deadbeef' "$program" --compare "$file.changed"
grep -v ' ballot$' "$file" >"$file.changed"
expect 1 'no dump, or damaged' "$program" --compare "$file.changed"
awk '/^case/ { skip = / ballot$/ } !skip' "$file" >"$file.changed"
expect 1 '^ballot *FAILED *the file has no such case' "$program" --compare "$file.changed"
sed 's/^case 32 \([0-9a-f]\)/case 32 f\1/' "$file" >"$file.changed"
expect 1 'made by another version' "$program" --compare "$file.changed"
head -c 3000 "$file" >"$file.changed"
expect 1 'no dump, or damaged' "$program" --compare "$file.changed"
expect 2 'usage' "$program"
echo "$failures failures"
[ $failures -eq 0 ]
