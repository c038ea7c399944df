#!/bin/sh
# Runs a program of the emulator under TSan: racing.sh REPORTS COMMAND...
# The program counts TSan's reports itself (tests/emu/check.h) and fails on those that no dropped site
# explains, so a report alone does not fail it; the reports are kept in REPORTS.* for reading. Equal stacks are
# not suppressed: a race dropped twice is reported twice.
set -u
reports=$1
shift
mkdir -p "$(dirname "$reports")"
rm -f "$reports".*
export TSAN_OPTIONS="exitcode=0:halt_on_error=0:suppress_equal_stacks=0:suppress_equal_addresses=0:\
report_thread_leaks=0:log_path=$reports:log_exe_name=0"
setarch -R true 2>/dev/null && set -- setarch -R "$@"
exec "$@"
