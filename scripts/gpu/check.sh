#!/usr/bin/env bash
# Compares every kernel on this machine's GPU with its definition, times it, and says what the machine is.
#
#   CWM=target/release/cwm OUT=out/gpu scripts/gpu/check.sh
#
# Leaves doctor.json and gpu-check.json in $OUT, and prints the table. Ends with an error where a kernel computes
# something else, or there is no GPU.
set -euo pipefail
cwm=${CWM:-target/release/cwm}
device=${DEVICE:-cuda}
out=${OUT:-out/gpu}
mkdir -p "$out"
chmod +x "$cwm" 2>/dev/null || true
"$cwm" doctor --json >"$out/doctor.json"
"$cwm" gpu-check --device "$device" --json >"$out/gpu-check.json"
"$cwm" gpu-check --device "$device" ${CHECK_OPTIONS:-}
