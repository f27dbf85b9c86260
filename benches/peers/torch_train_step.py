"""The PyTorch peer of `cwm bench train`: the same model, batch and optimiser.

    python benches/peers/torch_train_step.py [--shape p20|p60|p160] [--mode f32|bf16] [--compile]
        [--steps N] [--threads N] [--batch N] [--device cpu|cuda]

Model: width 384, 8 layers, 6 query and 2 key-value heads of 64, SwiGLU 1,024, vocabulary 8,192
untied, RMSNorm, half-split RoPE: 18.9M parameters. A step is --batch sequences of 1,024 random tokens. The
shape `p60` has width 640, 12 layers, 10 and 5 heads, SwiGLU 1,792 and a vocabulary of 2,048 (58.7M), `p160` width
768, 16 layers, 12 and 4 heads, SwiGLU 2,816 and a vocabulary of 32,768 (179.3M). Forward, backward and fused AdamW (lr 3e-4, betas 0.9 and 0.999, eps 1e-8, decay 0.01). In mode
`bf16` the forward runs under autocast; weights, moments and the loss stay f32. Attention is
`scaled_dot_product_attention`, the fastest torch has on a CPU and, on a GPU, flash attention.

Prints one JSON line: tokens per second of each step (the first, which compiles and touches
memory, is not counted), their median and best, the losses, and the peak resident memory.

Needs torch: `python -m pip install torch` in a virtual environment, and for `--compile` a C++
compiler. It installs nothing itself.
"""

import argparse
import json
import resource
import statistics
import sys
import time

try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError:
    sys.exit(
        "torch is not installed for this python: "
        "make a virtual environment and run `python -m pip install torch` in it"
    )

WIDTH, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 384, 8, 6, 2, 64
FEED_FORWARD, VOCABULARY, LENGTH = 1024, 8192, 1024
EPS, ROPE_BASE = 1e-5, 10_000.0
if "p60" in sys.argv:
    WIDTH, LAYERS, HEADS, KV_HEADS = 640, 12, 10, 5
    FEED_FORWARD, VOCABULARY = 1792, 2048
if "p160" in sys.argv:
    WIDTH, LAYERS, HEADS, KV_HEADS = 768, 16, 12, 4
    FEED_FORWARD, VOCABULARY = 2816, 32768


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        return F.rms_norm(x, (WIDTH,), self.weight, EPS)


def rotate(x, cos, sin):
    """Half-split RoPE on [batch, heads, length, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm, self.mlp_norm = Norm(), Norm()
        self.q = nn.Linear(WIDTH, HEADS * HEAD_DIM, bias=False)
        self.k = nn.Linear(WIDTH, KV_HEADS * HEAD_DIM, bias=False)
        self.v = nn.Linear(WIDTH, KV_HEADS * HEAD_DIM, bias=False)
        self.o = nn.Linear(HEADS * HEAD_DIM, WIDTH, bias=False)
        self.gate = nn.Linear(WIDTH, FEED_FORWARD, bias=False)
        self.up = nn.Linear(WIDTH, FEED_FORWARD, bias=False)
        self.down = nn.Linear(FEED_FORWARD, WIDTH, bias=False)

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        y = self.attention_norm(x)
        q = self.q(y).view(batch, length, HEADS, HEAD_DIM).transpose(1, 2)
        k = self.k(y).view(batch, length, KV_HEADS, HEAD_DIM).transpose(1, 2)
        v = self.v(y).view(batch, length, KV_HEADS, HEAD_DIM).transpose(1, 2)
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        k = k.repeat_interleave(HEADS // KV_HEADS, dim=1)
        v = v.repeat_interleave(HEADS // KV_HEADS, dim=1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(batch, length, HEADS * HEAD_DIM))
        y = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = Norm()
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        frequency = ROPE_BASE ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        angle = torch.outer(torch.arange(LENGTH), frequency).repeat(1, 2)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids):
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.head(self.norm(x))


def measure(arguments):
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    device, batch = arguments.device, arguments.batch
    model = Transformer().to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=3e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, fused=True
    )
    tokens = torch.randint(VOCABULARY, (batch, LENGTH + 1), device=device)
    ids, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def loss_of(ids, targets):
        with torch.autocast(device, torch.bfloat16, enabled=arguments.mode == "bf16"):
            logits = model(ids)
        return F.cross_entropy(logits.float().view(-1, VOCABULARY), targets.view(-1))

    if arguments.compile:
        loss_of = torch.compile(loss_of)
    speeds, losses = [], []
    for step in range(arguments.steps + 1):
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(ids, targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())  # waits for a GPU
        if device == "cuda":
            torch.cuda.synchronize()
        if step > 0:
            speeds.append(batch * LENGTH / (time.perf_counter() - started))
    return {
        "stack": "torch",
        "torch": torch.__version__,
        "mode": arguments.mode + ("+compile" if arguments.compile else ""),
        "threads": arguments.threads,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tok_per_s": speeds,
        "tok_per_s_median": statistics.median(speeds),
        "tok_per_s_best": max(speeds),
        "loss": losses,
        # Kilobytes on Linux. The compiler's own processes are not counted.
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=["f32", "bf16"], default="bf16")
    parser.add_argument("--shape", choices=["p20", "p60", "p160"], default="p20")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch", type=positive, default=8)
    parser.add_argument("--compile", action="store_true", help="use torch.compile")
    parser.add_argument("--steps", type=positive, default=5)
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    print(json.dumps(measure(parser.parse_args())), flush=True)


if __name__ == "__main__":
    main()
