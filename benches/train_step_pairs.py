"""Compares our training step with PyTorch's, in interleaved pairs.

    python benches/train_step_pairs.py [--shape p20|p60|p160] [--pairs N] [--steps N] [--threads N]
        [--modes bf16+compile,bf16,f32+compile,f32] [--torch-python PYTHON]
        [--peer-limit SECONDS]

For each mode and pair it runs `cwm bench train` and
`benches/peers/torch_train_step.py` in the same precision, one after the other, changing which goes first, and divides
the medians of their steps. Interleaving makes slow drifts of the machine hit both sides alike.
Prints progress to stderr and one JSON document to stdout: per mode every pair with its ratio and
its share of the CPU taken by other processes (Linux), the median ratio, and both peak memories.
Above 1.0 we are faster. Pairs above `--max-other` are left out of the median and say so.

A peer that is not done after `--peer-limit` is stopped (on a CPU without bf16 instructions a step of
torch in bf16 takes minutes). Its rate is then the most it can have been, all its tokens in that time,
compilation included, and the pair says `"torch_stopped": true`: the true ratio is above the one given.

The peer needs torch, which this script never installs. If the current python lacks it:
    python3 -m venv peers-env && peers-env/bin/python -m pip install torch
    python benches/train_step_pairs.py --torch-python peers-env/bin/python

With `--device cuda` both run on the first GPU (compare `--modes bf16+compile,bf16`, and raise `--batch`, since a GPU
wants many tokens at once); `--cwm` names a binary that is there already, where nothing can be built.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEER = ROOT / "benches" / "peers" / "torch_train_step.py"
OURS = os.path.join(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "release", "cwm")
BATCHES = {"p20": 8, "p60": 8, "p160": 2}
MODES = ["bf16+compile", "bf16", "f32+compile", "f32"]


def busy_ticks():
    """CPU time of all processes so far, in clock ticks; None where /proc does not tell."""
    try:
        with open("/proc/stat") as stat:
            fields = [int(field) for field in stat.readline().split()[1:9]]
    except OSError:
        return None
    idle, waiting = fields[3], fields[4]
    return sum(fields) - idle - waiting, sum(fields)


def child_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(command, limit=None):
    """The JSON that `command` prints last, with the CPU share that other processes took; None if it
    was stopped at the limit."""
    before, children = busy_ticks(), child_seconds()
    try:
        result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    if result.returncode != 0:
        sys.exit(f"`{' '.join(map(str, command))}` failed; its message is above")
    report = json.loads(result.stdout.strip().splitlines()[-1])
    after = busy_ticks()
    if before and after:
        ours = (child_seconds() - children) * os.sysconf("SC_CLK_TCK")
        busy, total = after[0] - before[0], after[1] - before[1]
        report["other_cpu"] = round(max(0.0, busy - ours) / max(total, 1), 4)
    return report


def pair(mode, index, arguments):
    common = ["--steps", str(arguments.steps), "--threads", str(arguments.threads)]
    common += ["--device", arguments.device, "--batch", str(arguments.batch or BATCHES[arguments.shape])]
    ours = [arguments.cwm, "bench", "train", "--json", "--preset", arguments.shape, *common]
    precision, _, compiled = mode.partition("+")
    ours += ["--precision", precision]
    peer = [arguments.torch_python, str(PEER), "--mode", precision, "--shape", arguments.shape, *common]
    if compiled:
        peer.append("--compile")
    order = [("cwm", ours, None), ("torch", peer, arguments.peer_limit)]
    order = order if index % 2 == 0 else order[::-1]
    reports = {name: run(command, limit) for name, command, limit in order}
    cwm, torch = reports["cwm"], reports["torch"]
    if torch is None:
        most = (arguments.steps + 1) * cwm["tokens_per_step"] / arguments.peer_limit
        return {
            "ratio": cwm["tok_per_s_median"] / most,
            "cwm_tok_per_s": cwm["tok_per_s_median"],
            "torch_tok_per_s": most,
            "torch_stopped": True,
            "cwm_peak_rss_mb": cwm["peak_rss_mb"],
            "torch_peak_rss_mb": None,
            "other_cpu": cwm.get("other_cpu", 0),
        }
    if cwm["parameters"] != torch["parameters"]:
        sys.exit(f"not the same model: {cwm['parameters']} and {torch['parameters']} parameters")
    return {
        "ratio": cwm["tok_per_s_median"] / torch["tok_per_s_median"],
        "cwm_tok_per_s": cwm["tok_per_s_median"],
        "torch_tok_per_s": torch["tok_per_s_median"],
        "torch_stopped": False,
        "cwm_peak_rss_mb": cwm["peak_rss_mb"],
        "torch_peak_rss_mb": torch["peak_rss_mb"],
        "other_cpu": max((r["other_cpu"] for r in reports.values() if "other_cpu" in r), default=0),
    }


def summary(pairs, max_other):
    quiet = [pair for pair in pairs if pair["other_cpu"] <= max_other]
    # On a machine that is never quiet a disturbed figure, so marked, is better than none.
    kept = quiet or pairs
    middle = lambda key: statistics.median(pair[key] for pair in kept)
    return {
        "median_ratio": middle("ratio"),
        "median_cwm_tok_per_s": middle("cwm_tok_per_s"),
        "median_torch_tok_per_s": middle("torch_tok_per_s"),
        "pairs_kept": len(kept),
        "disturbed": not quiet,
        "pairs": pairs,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=list(BATCHES), default="p20")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch", type=int, help="sequences of 1,024 tokens a step")
    parser.add_argument("--cwm", default=OURS, help="our binary")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--modes", type=lambda text: text.split(","), default=MODES)
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--peer-limit", type=float, metavar="SECONDS")
    parser.add_argument("--max-other", type=float, default=0.05)
    arguments = parser.parse_args()
    for mode in arguments.modes:
        if mode not in MODES:
            parser.error(f"unknown mode `{mode}`; choose from {', '.join(MODES)}")

    has_torch = subprocess.run([arguments.torch_python, "-c", "import torch"], stderr=subprocess.DEVNULL)
    if has_torch.returncode != 0:
        parser.error(f"`{arguments.torch_python}` has no torch; see the head of this file")
    if arguments.cwm == OURS:
        subprocess.run(["cargo", "build", "--quiet", "--release"], cwd=ROOT, check=True)

    results = {}
    for mode in arguments.modes:
        pairs = []
        for index in range(arguments.pairs):
            pairs.append(pair(mode, index, arguments))
            print(f"{mode} {index + 1}/{arguments.pairs}: {pairs[-1]}", file=sys.stderr, flush=True)
        results[mode] = summary(pairs, arguments.max_other)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
