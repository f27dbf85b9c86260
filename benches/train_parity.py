"""Repeats 200 steps of our training in PyTorch, from the same weights and tokens, and compares.

    python benches/train_parity.py [--steps N] [--band NATS] [--torch-python PYTHON]

Runs `cargo bench -p cwm-train --bench parity`, which leaves the initial weights, the tokens of every
step, the settings and our losses in a temporary folder. Then the same model is trained in PyTorch
(f32, eager) with `torch.optim.AdamW` and `clip_grad_norm_`. Prints one JSON document: both losses
of some steps, the largest difference of any step, and the difference of the mean of the last
twenty. Exits with 1 if a difference is above the band (default 0.001 nats): the two runs add up in
another order, and training magnifies what they differ by.

Needs torch, which this script never installs; see `benches/train_step_pairs.py`.
"""

import argparse
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def read_safetensors(path):
    """Tensors of a file in f32, by name, as torch tensors."""
    import torch

    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        flat = torch.frombuffer(bytearray(data[start:end]), dtype=torch.float32)
        tensors[name] = flat.view(entry["shape"])
    return tensors


class Transformer:
    """The family's definition, function by function, over named weights."""

    def __init__(self, config, weights):
        import torch

        self.config, self.weights = config, weights
        head_dim = config["head_dim"]
        theta = config["rope_theta"]
        frequency = theta ** (-torch.arange(0, head_dim, 2).float() / head_dim)
        angle = torch.outer(torch.arange(config["max_position_embeddings"]).float(), frequency)
        angle = angle.repeat(1, 2)
        self.cos, self.sin = angle.cos(), angle.sin()

    def norm(self, x, name):
        import torch.nn.functional as F

        return F.rms_norm(x, (x.shape[-1],), self.weights[name], self.config["rms_norm_eps"])

    def rotate(self, x):
        import torch

        first, second = x.chunk(2, dim=-1)
        turned = torch.cat((-second, first), dim=-1)
        length = x.shape[-2]
        return x * self.cos[:length] + turned * self.sin[:length]

    def layer(self, x, prefix):
        import torch.nn.functional as F

        batch, length, _ = x.shape
        heads, kv_heads = self.config["num_attention_heads"], self.config["num_key_value_heads"]

        def heads_of(y, name, count):
            projected = y @ self.weights[f"{prefix}.self_attn.{name}.weight"].T
            return projected.view(batch, length, count, -1).transpose(1, 2)

        y = self.norm(x, f"{prefix}.input_layernorm.weight")
        q = self.rotate(heads_of(y, "q_proj", heads))
        k = self.rotate(heads_of(y, "k_proj", kv_heads)).repeat_interleave(heads // kv_heads, 1)
        v = heads_of(y, "v_proj", kv_heads).repeat_interleave(heads // kv_heads, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = y.transpose(1, 2).reshape(batch, length, -1)
        x = x + y @ self.weights[f"{prefix}.self_attn.o_proj.weight"].T
        y = self.norm(x, f"{prefix}.post_attention_layernorm.weight")
        gate = y @ self.weights[f"{prefix}.mlp.gate_proj.weight"].T
        up = y @ self.weights[f"{prefix}.mlp.up_proj.weight"].T
        return x + (F.silu(gate) * up) @ self.weights[f"{prefix}.mlp.down_proj.weight"].T

    def __call__(self, ids):
        x = self.weights["model.embed_tokens.weight"][ids]
        for index in range(self.config["num_hidden_layers"]):
            x = self.layer(x, f"model.layers.{index}")
        return self.norm(x, "model.norm.weight") @ self.weights["lm_head.weight"].T


def repeat(folder):
    """The losses and gradient norms of the run in `folder`, made by torch."""
    import torch
    import torch.nn.functional as F

    run = json.loads((folder / "cwm.json").read_text())
    config = json.loads((folder / "initial" / "config.json").read_text())
    config.setdefault("rope_theta", (config.get("rope_parameters") or {}).get("rope_theta"))
    weights = read_safetensors(folder / "initial" / "model.safetensors")
    for weight in weights.values():
        weight.requires_grad_()
    model = Transformer(config, weights)
    settings = run["optimizer"]
    matrices = [weight for weight in weights.values() if weight.dim() > 1]
    vectors = [weight for weight in weights.values() if weight.dim() == 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": settings["weight_decay"]},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=settings["lr"],
        betas=settings["betas"],
        eps=settings["eps"],
    )
    tokens = (folder / "tokens.bin").read_bytes()
    tokens = torch.frombuffer(bytearray(tokens), dtype=torch.int32).long()
    tokens = tokens.view(run["steps"], run["batch"], run["length"])
    losses, norms = [], []
    for multiplier, batch in zip(run["multipliers"], tokens):
        for group in optimizer.param_groups:
            group["lr"] = settings["lr"] * multiplier
        optimizer.zero_grad(set_to_none=True)
        logits = model(batch)[:, :-1].reshape(-1, config["vocab_size"])
        loss = F.cross_entropy(logits, batch[:, 1:].reshape(-1))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(weights.values()), settings["clip"])
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm.item())
    return losses, norms


def compare(folder, band):
    run = json.loads((folder / "cwm.json").read_text())
    losses, norms = repeat(folder)
    differences = [abs(a - b) for a, b in zip(run["loss"], losses)]
    last = slice(-20, None)
    mean = lambda values: sum(values) / len(values)
    shown = sorted({0, 1, 9, 49, 99, 149, len(losses) - 1} & set(range(len(losses))))
    report = {
        "steps": run["steps"],
        "band": band,
        "losses": [
            {"step": step + 1, "cwm": run["loss"][step], "torch": losses[step]} for step in shown
        ],
        "largest_difference": max(differences),
        "at_step": differences.index(max(differences)) + 1,
        "difference_of_last_means": abs(mean(run["loss"][last]) - mean(losses[last])),
        "first_grad_norms": {"cwm": run["grad_norm"][0], "torch": norms[0]},
    }
    report["within_band"] = report["largest_difference"] <= band
    print(json.dumps(report, indent=2))
    return 0 if report["within_band"] else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--band", type=float, default=0.001)
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--compare", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.compare:
        return compare(arguments.compare, arguments.band)
    with tempfile.TemporaryDirectory() as folder:
        bench = ["cargo", "bench", "-q", "-p", "cwm-train", "--bench", "parity", "--"]
        command = [*bench, "--out", folder, "--steps", str(arguments.steps)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        command = [arguments.torch_python, __file__, "--compare", folder]
        return subprocess.run([*command, "--band", str(arguments.band)]).returncode


if __name__ == "__main__":
    sys.exit(main())
