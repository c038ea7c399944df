#!/bin/bash
# The README says what is there: its C program is examples/c/steps.c to the letter and at most 30 lines, the
# paths and scripts it names exist, and so do the commands, the options and the CMake targets.
#   check_readme.sh CARRY
set -euo pipefail
carry=$1
cd "$(dirname "$0")/.."
failed=0
fail() {
    echo "README.md: $*"
    failed=1
}

diff <(awk '/^```c$/ {on = 1; next} /^```$/ {on = 0} on' README.md) examples/c/steps.c ||
    fail "its C program is not examples/c/steps.c"
[ "$(wc -l <examples/c/steps.c)" -le 30 ] || fail "its C program has more than 30 lines"

# Links, and words in code that look like a path of the tree.
for path in $(grep -o '](\([^)#]*\))' README.md | sed 's/](\(.*\))/\1/') \
    $(grep -oE '(scripts|examples|include|docs|tests|src|kernels|bench)/[A-Za-z0-9_./-]*' README.md | sed 's/\.$//'); do
    [ -e "$path" ] || fail "$path does not exist"
done

commands=$("$carry" --help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
[ -n "$commands" ] || fail "carry --help lists no commands"
for command in $commands; do
    grep -q "^carry $command " README.md || fail "carry $command is not mentioned"
done
while read -r command options; do
    grep -qx "$command" <<<"$commands" || { fail "there is no command $command"; continue; }
    help=$("$carry" "$command" --help)
    for option in $(grep -oE -- '--[a-z-]+' <<<"$options"); do
        [ "$option" = --help ] || grep -q -- "$option\b" <<<"$help" || fail "carry $command has no option $option"
    done
done < <(sed -n '/^```sh/,/^```$/s/^carry \([a-z]*\)/\1/p' README.md)

for preset in $(grep -oE -- '--preset [a-z-]+' README.md | cut -d ' ' -f 2 | sort -u); do
    grep -q "\"name\": \"$preset\", \"configurePreset\"" CMakePresets.json || fail "there is no preset $preset"
done
[ $failed -eq 0 ] && echo "README.md: the program, $(wc -w <<<"$commands") commands and every path are there"
exit $failed
