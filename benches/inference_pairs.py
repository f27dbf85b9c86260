"""Compares the speed of `cwm bench` with llama.cpp's llama-bench or with PyTorch, in interleaved pairs.

    python benches/inference_pairs.py --llama FOLDER [--models m30,m160] [--formats int8,int4,bf16]
        [--pairs N] [--depth N] [--pp N] [--tg N] [--threads N] [--gguf FOLDER] [--cwm BINARY]
    python benches/inference_pairs.py --torch-python PYTHON --formats bf16 [...]

Each pair is one run of either program on the same shape with random weights, one right after the other,
changing which goes first.  The peer's figure is the better of its runs with and without flash attention
(`-fa 0`, `-fa 1`); with --torch-python the peer is `benches/peers/torch_prefill.py`, in bf16 only.  Prints progress to stderr and one JSON document to stdout: for each model, format and test
every pair with its ratio and the median ratio; above 1.0 we are faster.  A pair during which other
processes took more than --max-other of the CPU is left out of the median and says so.

FOLDER has llama-bench and llama-quantize.  They can be built from a source package of PyPI, which carries
llama.cpp (gcc 12 needs the line with sed, or products on AMX crash):

    python3 -m venv peers-env && peers-env/bin/pip install cmake ninja gguf==0.19.0 numpy
    peers-env/bin/pip download --no-deps --no-binary llama-cpp-python llama-cpp-python==0.3.36
    tar -xzf llama_cpp_python-0.3.36.tar.gz && cd llama_cpp_python-0.3.36/vendor/llama.cpp
    sed -i 's|_tile_loadconfig(&tc);|__asm__ volatile("" : : "r"(\\&tc) : "memory"); _tile_loadconfig(\\&tc);|' \\
        ggml/src/ggml-cpu/amx/mmq.cpp
    cmake -G Ninja -B build -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DLLAMA_OPENSSL=OFF \\
        -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF
    ninja -C build llama-bench llama-quantize
    peers-env/bin/python benches/peers/llama_models.py models-gguf      # the models, once
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FORMATS = {"int8": "Q8_0", "int4": "Q4_0", "int4-g128": "Q4_0", "bf16": "BF16"}


def busy():
    """Ticks that all processes ran, and all ticks; zeros where /proc does not tell."""
    try:
        with open("/proc/stat") as stat:
            fields = [int(field) for field in stat.readline().split()[1:9]]
    except OSError:
        return 0, 0
    return sum(fields) - fields[3] - fields[4], sum(fields)


def own_ticks():
    times = os.times()
    return (times.children_user + times.children_system) * os.sysconf("SC_CLK_TCK")


def run(command):
    """The JSON lines that `command` prints, and the share of the CPU that others took meanwhile."""
    before, own = busy(), own_ticks()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("%s failed:\n%s" % (command[0], done.stderr[-2000:]))
    after, own = busy(), own_ticks() - own
    other = max(0.0, after[0] - before[0] - own) / max(1, after[1] - before[1])
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return lines, other


def ours(args, model, form):
    command = [args.cwm, "bench", "--model", "preset:" + model, "--quant", form, "--json"]
    command += ["--pp", str(args.pp), "--tg", str(args.tg), "--depth", str(args.depth)]
    command += ["--threads", str(args.threads), "--repetitions", str(args.repetitions)]
    lines, other = run(command)
    return {line["test"]: line["tokens_per_second"] for line in lines}, other


def theirs(args, model, form):
    path = args.gguf / ("%s-%s.gguf" % (model, FORMATS[form]))
    best, others = {}, []
    for flash in ["0", "1"]:
        command = [str(args.llama / "llama-bench"), "-m", str(path), "-fa", flash, "-o", "jsonl"]
        command += ["-p", str(args.pp), "-n", str(args.tg), "-d", str(args.depth)]
        command += ["-t", str(args.threads), "-r", str(args.repetitions)]
        lines, other = run(command)
        others.append(other)
        for line in lines:
            test = "pp" if line["n_prompt"] > 0 else "tg"
            best[test] = max(best.get(test, 0.0), statistics.median(line["samples_ts"]))
    return best, max(others)


def torch(args, model, _form):
    command = [args.torch_python, str(ROOT / "benches/peers/torch_prefill.py"), "--model", model]
    command += ["--pp", str(args.pp), "--tg", str(args.tg), "--threads", str(args.threads)]
    command += ["--repetitions", str(args.repetitions)]
    lines, other = run(command)
    return {line["test"]: line["tokens_per_second"] for line in lines}, other


def quantized(args, model, form):
    """Makes the peer's file where it is not there yet."""
    kind = FORMATS[form]
    path = args.gguf / ("%s-%s.gguf" % (model, kind))
    if not path.exists():
        source = args.gguf / (model + "-f16.gguf")
        if not source.exists():
            sys.exit("%s is missing: make it with benches/peers/llama_models.py" % source)
        command = [str(args.llama / "llama-quantize"), "--allow-requantize", str(source), str(path), kind]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser()
    peers = parser.add_mutually_exclusive_group(required=True)
    peers.add_argument("--llama", type=pathlib.Path)
    peers.add_argument("--torch-python")
    parser.add_argument("--gguf", type=pathlib.Path, default=ROOT / "models-gguf")
    parser.add_argument("--cwm", default=str(ROOT / "target" / "release" / "cwm"))
    parser.add_argument("--models", default="m30,m160")
    parser.add_argument("--formats", default="int8,int4,bf16")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--pp", type=int, default=512)
    parser.add_argument("--tg", type=int, default=128)
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--max-other", type=float, default=0.05)
    args = parser.parse_args()
    peer, name = (torch, "torch") if args.torch_python else (theirs, "llama")
    if args.torch_python and (args.formats != "bf16" or args.depth):
        parser.error("PyTorch is compared in bf16, without a context: --formats bf16 --depth 0")
    results = []
    for model in args.models.split(","):
        for form in args.formats.split(","):
            if args.llama:
                quantized(args, model, form)
            pairs = []
            for index in range(args.pairs):
                sides = [ours, peer] if index % 2 == 0 else [peer, ours]
                measured = {side: side(args, model, form) for side in sides}
                (cwm, other_a), (them, other_b) = measured[ours], measured[peer]
                pair = {"other_cpu": round(max(other_a, other_b), 3), "cwm": cwm, name: them}
                pair["ratio"] = {test: round(cwm[test] / them[test], 3) for test in cwm}
                pairs.append(pair)
                print(model, form, pair, file=sys.stderr)
            quiet = [pair for pair in pairs if pair["other_cpu"] <= args.max_other]
            tests = pairs[0]["ratio"]
            median = {t: statistics.median(p["ratio"][t] for p in quiet) for t in tests} if quiet else None
            results.append({"model": model, "format": form, "depth": args.depth,
                            "median_ratio": median, "n_quiet": len(quiet), "pairs": pairs})
    json.dump({"threads": args.threads, "results": results}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
