"""Saves the Hugging Face folder IN in Meta's layout as OUT: with `torch.distributed.checkpoint`, from
two processes that each hold half of every matrix, beside an optimiser's state that nobody asked for."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as checkpoint
import torch.multiprocessing as processes
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

NAMES = {
    "model.embed_tokens": "tok_embeddings", "model.norm": "norm", "lm_head": "output",
    "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attention.wq", "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv", "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
}
BY_COLUMNS = ("attention.wo", "feed_forward.w2")


def translated(name):
    stem = name.removesuffix(".weight").removeprefix("model.layers.")
    if stem in NAMES:
        return f"{NAMES[stem]}.weight"
    layer, part = stem.split(".", 1)
    return f"layers.{layer}.{NAMES[part]}.weight"


def paired(weight, head):
    """Rows of a head that are turned together, side by side."""
    rows, columns = weight.shape
    return weight.reshape(-1, 2, head // 2, columns).transpose(1, 2).reshape(rows, columns)


def save(rank, source, out, store):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    head = json.loads((source / "config.json").read_text())["head_dim"]
    model = {}
    for name, weight in load_file(source / "model.safetensors").items():
        own = translated(name)
        if own.endswith(("wq.weight", "wk.weight")):
            weight = paired(weight, head)
        kind = Replicate() if weight.dim() == 1 else Shard(int(any(n in own for n in BY_COLUMNS)))
        model[own] = distribute_tensor(weight.contiguous(), mesh, [kind])
    state = {"model": model, "optim": {"step": 7, "exp_avg": torch.ones(3)}}
    checkpoint.save(state, checkpoint_id=out)
    dist.destroy_process_group()


def params(config):
    rope = config["rope_parameters"]
    layers = config["layer_types"]
    return {"model": {
        "dim": config["hidden_size"], "n_layers": len(layers),
        "n_heads": config["num_attention_heads"], "n_kv_heads": config["num_key_value_heads"],
        "head_dim": config["head_dim"], "vocab_size": config["vocab_size"],
        "max_seq_len": config["max_position_embeddings"], "norm_eps": config["rms_norm_eps"],
        "pos_embed_impl": "scaled_rope", "rope_theta": rope["rope_theta"],
        "scaled_rope": {
            "scale_factor": rope["factor"], "low_freq_factor": rope["low_freq_factor"],
            "high_freq_factor": rope["high_freq_factor"],
            "old_context_len": rope["original_max_position_embeddings"],
        },
        "window_attn": {"window_pattern": 2, "local_window": config["sliding_window"]},
    }}


if __name__ == "__main__":
    source, out = map(Path, sys.argv[1:])
    processes.spawn(save, args=(source, out, out.with_suffix(".store")), nprocs=2)
    config = json.loads((source / "config.json").read_text())
    (out / "params.json").write_text(json.dumps(params(config)))
