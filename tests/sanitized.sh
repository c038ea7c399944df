#!/bin/sh
# Runs a test of a sanitizer build: sanitized.sh REPORTS COMMAND...
# Criterion counts a test that leaks as passed, and a command's child may swallow what it printed. So every
# sanitizer writes its reports to files REPORTS.*, and one such file fails the test.
set -u
reports=$1
shift
mkdir -p "$(dirname "$reports")"
rm -f "$reports".*
common="log_path=$reports:log_exe_name=0"
export ASAN_OPTIONS="detect_leaks=1:detect_stack_use_after_return=1:$common${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export LSAN_OPTIONS="report_objects=1${LSAN_OPTIONS:+:$LSAN_OPTIONS}"
export UBSAN_OPTIONS="print_stacktrace=1:$common${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
export TSAN_OPTIONS="halt_on_error=0:$common${TSAN_OPTIONS:+:$TSAN_OPTIONS}"
# Kernels that spread addresses wider than TSan of clang 14 expects stop it at its start.
setarch -R true 2>/dev/null && set -- setarch -R "$@"
"$@"
code=$?
for report in "$reports".*; do
    [ -f "$report" ] || continue
    echo "sanitizer report in $report:"
    head -n 60 "$report"
    [ $code -ne 0 ] || code=1
done
exit $code
