#!/usr/bin/env bash
# Training speed of named shapes on this machine's GPU, beside PyTorch on the same model where `python3` has it.
#
#   CWM=target/release/cwm OUT=out/gpu scripts/gpu/train-speed.sh
#
# Leaves speed-SHAPE.json in $OUT: pairs of runs, ours and PyTorch's in turn, with torch.compile and without. Where
# there is no PyTorch, our runs alone. SHAPES, BATCH, STEPS and PAIRS make it smaller.
set -euo pipefail
cwm=${CWM:-target/release/cwm}
device=${DEVICE:-cuda}
out=${OUT:-out/gpu}
python=${PYTHON:-python3}
mkdir -p "$out"
chmod +x "$cwm" 2>/dev/null || true
batch=${BATCH:-64}
steps=${STEPS:-20}
# The dense bf16 rate of an H100 SXM, in 10^12 operations a second.
peak=${PEAK:-989}
for shape in ${SHAPES:-p20 p60}; do
    if "$python" -c 'import torch' 2>/dev/null && [ -z "${ALONE:-}" ]; then
        "$python" benches/train_step_pairs.py --cwm "$cwm" --device "$device" --shape "$shape" --batch "$batch" \
            --steps "$steps" --pairs "${PAIRS:-3}" --modes bf16+compile,bf16 >"$out/speed-$shape.json"
    fi
    "$cwm" bench train --preset "$shape" --device "$device" --batch "$batch" --length "${LENGTH:-1024}" \
        --steps "$steps" --peak "$peak" --json >"$out/speed-$shape-alone.json"
    cat "$out/speed-$shape-alone.json"
done
