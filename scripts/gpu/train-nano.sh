#!/usr/bin/env bash
# One leg of training cwm-nano: ends by itself after LEG_SECONDS, and the next one goes on where it stood.
#
#   CWM=target/release/cwm RUNS=out/gpu-runs OUT=out/gpu scripts/gpu/train-nano.sh
#
# Data and checkpoints stay in $RUNS between legs. While the GPU trains, the processor's cores generate and trace
# the programs of the next leg. In the end $OUT has the weights in 8 bits, in parts of 15 MiB
# (`cat model.safetensors.part-* > model.safetensors` joins them), what belongs to them, and the log of the leg.
#
# DEVICE, STAGE (a stage file in which DATA and HELD_OUT stand for the data), COUNT (programs of a leg), WORKERS
# (processes that generate) and LEG_SECONDS make it smaller, for a rehearsal on a CPU.
# Each job in the background is a group of processes, so that all of it can be ended.
set -euo pipefail -m
cwm=${CWM:-target/release/cwm}
device=${DEVICE:-cuda}
out=${OUT:-out/gpu}
runs=${RUNS:-out/gpu-runs}
stage=${STAGE:-scripts/gpu/nano.toml}
count=${COUNT:-48000}
workers=${WORKERS:-$(nproc)}
leg_seconds=${LEG_SECONDS:-510}
mkdir -p "$out" "$runs"
chmod +x "$cwm" 2>/dev/null || true

# Programs of leg $1, with their workings, as one file; shared by the workers, each with a seed of its own.
generate() {
    local leg=$1 worker
    [ -e "$runs/leg-$leg.jsonl" ] && return
    for worker in $(seq "$workers"); do
        (
            local part="$runs/leg-$leg.$worker"
            "$cwm" data generate --seed $((leg * 1000 + worker)) --count $((count / workers + 1)) --drills 10 \
                --out "$part.plain" 2>"$part.log"
            "$cwm" data work --data "$part.plain" --out "$part.worked" 2>>"$part.log"
        ) &
    done
    wait
    cat "$runs/leg-$leg".*.worked >"$runs/leg-$leg.new"
    rm -f "$runs/leg-$leg".*.plain "$runs/leg-$leg".*.worked
    mv "$runs/leg-$leg.new" "$runs/leg-$leg.jsonl"
}

leg=$(($(cat "$runs/leg" 2>/dev/null || echo 0) + 1))
if [ ! -e "$runs/held.jsonl" ]; then
    "$cwm" data generate --seed 9001 --count $((count / 100 + 20)) --out "$runs/held.plain" 2>/dev/null
    "$cwm" data work --data "$runs/held.plain" --out "$runs/held.jsonl" 2>/dev/null
fi
began=$SECONDS
generate "$leg"
# The next leg's programs, while this one trains.
generate $((leg + 1)) &
generating=$!

sed -e "s|DATA|$runs/leg-$leg.jsonl|" -e "s|HELD_OUT|$runs/held.jsonl|" "$stage" >"$runs/stage.toml"
resume=()
[ "$leg" -gt 1 ] && resume=(--resume --new-data)
left=$((leg_seconds - (SECONDS - began)))
# An interrupt lets the step end, and writes a checkpoint.
timeout --signal=INT --kill-after=60 "$left" "$cwm" train --config "$runs/stage.toml" --out "$runs/run" \
    --device "$device" "${resume[@]}" 2>"$out/train-$leg.log" || [ $? -eq 124 ] || {
    cat "$out/train-$leg.log" >&2
    exit 1
}
tail -n 3 "$out/train-$leg.log"
echo "$leg" >"$runs/leg"
rm -f "$runs/leg-$leg.jsonl"

rm -rf "$runs/model"
"$cwm" export --run "$runs/run" --out "$runs/model" --dtype int8 --ema
split --bytes=15M "$runs/model/model.safetensors" "$out/model.safetensors.part-"
cp "$runs/model/config.json" "$runs/model/vocabulary.json" "$out/"
tail -n 200 "$runs/run/train.jsonl" >"$out/train.jsonl"
# Programs that are not ready by now are made when the next leg begins.
kill -- -"$generating" 2>/dev/null || true
wait "$generating" 2>/dev/null || true
