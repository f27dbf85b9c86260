"""The PyTorch peer of `cwm bench --quant bf16`: `CwmForCausalLM` of transformers with random weights.

    python benches/peers/torch_prefill.py [--model m30|m160] [--pp N] [--tg N] [--threads N] [--repetitions N]

Shapes are those of `cwm bench --model preset:NAME`; windows of 1,024 tokens in three layers of four, as CWM
has them. Reading takes the logits of the last token only. Prints one JSON line for each test, with the
rates of all repetitions but a first one that is not counted, and their median.

Needs torch, transformers, gguf and numpy, and installs nothing itself.
"""

import argparse
import json
import statistics
import sys
import time

try:
    import torch
    import transformers
except ImportError as missing:
    sys.exit("%s: `python -m pip install torch transformers` in a virtual environment" % missing)

from llama_models import HEAD, SHAPES


def build(name):
    vocabulary, width, layers, heads, kv_heads, inner, tied = SHAPES[name]
    config = transformers.CwmConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=HEAD,
        sliding_window=1024,
        tie_word_embeddings=tied,
        max_position_embeddings=32768,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    return transformers.CwmForCausalLM(config).to(torch.bfloat16).eval(), vocabulary


def read(model, vocabulary, tokens):
    ids = torch.randint(vocabulary, (1, tokens))
    started = time.perf_counter()
    model(ids, logits_to_keep=1, use_cache=True)
    return tokens / (time.perf_counter() - started)


def generate(model, vocabulary, tokens):
    out = model(torch.randint(vocabulary, (1, 4)), use_cache=True)
    started = time.perf_counter()
    for _ in range(tokens):
        newest = out.logits[:, -1:].argmax(-1)
        out = model(newest, past_key_values=out.past_key_values, use_cache=True)
    return tokens / (time.perf_counter() - started)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["m30", "m160"], default="m30")
    parser.add_argument("--pp", type=int, default=512)
    parser.add_argument("--tg", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with torch.inference_mode():
        model, vocabulary = build(args.model)
        for test, run, tokens in [("pp", read, args.pp), ("tg", generate, args.tg)]:
            if tokens == 0:
                continue
            rates = [run(model, vocabulary, tokens) for _ in range(args.repetitions + 1)][1:]
            line = {"stack": "torch " + torch.__version__, "test": test, "tokens": tokens}
            line |= {"samples": rates, "tokens_per_second": statistics.median(rates)}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
