#!/usr/bin/env bash
# Measures a model on programs it has not seen, on the GPU and on this machine's processor: the rates should agree
# within their intervals, and the GPU should be done sooner.
#
#   CWM=target/release/cwm MODEL=models/nano OUT=out/gpu scripts/gpu/eval.sh
#
# Leaves eval-device.json and eval-cpu.json in $OUT (what `cwm eval traces --json` prints), and seconds.json with
# the time of each. COUNT (programs), CPU_COUNT (of them on the processor), THREADS (programs at a time on the
# device) and DEVICE make it smaller, for a rehearsal on a CPU.
set -euo pipefail
cwm=${CWM:-target/release/cwm}
model=${MODEL:-models/nano}
device=${DEVICE:-cuda}
out=${OUT:-out/gpu}
count=${COUNT:-400}
cpu_count=${CPU_COUNT:-100}
mkdir -p "$out"
chmod +x "$cwm" 2>/dev/null || true
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
"$cwm" data generate --seed 7001 --count "$count" --out "$data/programs.jsonl" 2>/dev/null

# Evaluates with the options $2... into $1 and prints the seconds it took.
measure() {
    local to=$1 began ended
    shift
    began=$(date +%s%N)
    "$cwm" eval traces --model "$model" --data "$data/programs.jsonl" --json "$@" >"$to"
    ended=$(date +%s%N)
    awk "BEGIN { print ($ended - $began) / 1e9 }"
}

on_device=$(measure "$out/eval-device.json" --device "$device" ${THREADS:+--threads "$THREADS"})
on_cpu=$(measure "$out/eval-cpu.json" --limit "$cpu_count")
echo "{\"device\": \"$device\", \"programs\": $count, \"seconds\": $on_device, \"cpu_programs\": $cpu_count, \"cpu_seconds\": $on_cpu}" \
    >"$out/seconds.json"
cat "$out/seconds.json"
