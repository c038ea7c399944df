#!/bin/sh
# examples/sensors for a second at its own pace, and for a second with far more readings than anything can answer: what was
# submitted is answered, in order, with the bits of a lone run. The program says so by its exit status.   sensors.sh SENSORS CARRY
set -eu
SENSORS=$(realpath "$1") CARRY=$(realpath "$2")
export SENSORS CARRY
run=$(dirname "$0")/../../examples/sensors/run.sh
"$run" -s 1
"$run" -s 1 -n 6000 -p 1 -w 2

code=0
"$run" -n 0 2>/dev/null || code=$?
[ $code -eq 2 ]
