"""Writes and reads GGUF files with the package `gguf`, for the tests of ours.

    write FOLDER        a model of every type: FOLDER/peer.gguf, and what its tensors hold, in the
                        order of Hugging Face's rows, as FOLDER/NAME.f32
    read FILE FOLDER    what the package makes of FILE, row order as it is, as FOLDER/NAME.f32
"""

import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

HIDDEN, INNER, HEADS, KV_HEADS, HEAD, VOCABULARY = 256, 512, 4, 2, 64, 96
RANDOM = np.random.default_rng(5)

LAYERS = [
    dict(attn_q=Type.Q4_K, attn_k=Type.Q6_K, attn_v=Type.Q8_0, attn_output=Type.Q4_0,
         ffn_gate=Type.Q4_1, ffn_up=Type.F16, ffn_down=Type.BF16),
    dict(attn_q=Type.Q4_0, attn_k=Type.Q4_1, attn_v=Type.Q4_K, attn_output=Type.Q6_K,
         ffn_gate=Type.Q8_0, ffn_up=Type.Q4_0, ffn_down=Type.F32),
]
SHAPES = dict(
    attn_q=(HEADS * HEAD, HIDDEN), attn_k=(KV_HEADS * HEAD, HIDDEN),
    attn_v=(KV_HEADS * HEAD, HIDDEN), attn_output=(HIDDEN, HEADS * HEAD),
    ffn_gate=(INNER, HIDDEN), ffn_up=(INNER, HIDDEN), ffn_down=(HIDDEN, INNER),
)
ROTATED = dict(attn_q=HEADS, attn_k=KV_HEADS)


def stored(shape, kind):
    """Bytes of random weights. The package has no encoder for K types: any bytes will do, once the
    scales among them are sane."""
    if kind not in (Type.Q4_K, Type.Q6_K):
        return gguf.quants.quantize(RANDOM.normal(size=shape).astype(np.float32), kind)
    _, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = RANDOM.integers(0, 256, size=(shape[0] * shape[1] // 256, size), dtype=np.uint8)
    scales = 4 if kind == Type.Q4_K else 2
    values = RANDOM.uniform(1e-3, 2e-2, size=(len(blocks), scales // 2)).astype(np.float16)
    place = slice(0, 4) if kind == Type.Q4_K else slice(208, 210)
    blocks[:, place] = values.view(np.uint8)
    return blocks.reshape(shape[0], -1)


def write(folder):
    out = gguf.GGUFWriter(folder / "peer.gguf", "llama")
    out.add_vocab_size(VOCABULARY)
    out.add_context_length(128)
    out.add_embedding_length(HIDDEN)
    out.add_block_count(len(LAYERS))
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV_HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_freq_base(50000.0)
    out.add_rope_dimension_count(HEAD)
    out.add_tokenizer_model("gpt2")
    out.add_token_list([f"token {i}" for i in range(VOCABULARY)])
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)

    def add(name, shape, kind, heads=None):
        data = stored(shape, kind)
        out.add_tensor(f"{name}.weight", data, raw_dtype=kind)
        values = gguf.quants.dequantize(data, kind).reshape(shape)
        if heads:
            values = values.reshape(heads, HEAD // 2, 2, shape[1]).swapaxes(1, 2).reshape(shape)
        values.astype("<f4").tofile(folder / f"{name}.f32")

    add("token_embd", (VOCABULARY, HIDDEN), Type.Q6_K)
    add("output", (VOCABULARY, HIDDEN), Type.Q8_0)
    add("output_norm", (HIDDEN,), Type.F32)
    for layer, kinds in enumerate(LAYERS):
        add(f"blk.{layer}.attn_norm", (HIDDEN,), Type.F32)
        add(f"blk.{layer}.ffn_norm", (HIDDEN,), Type.F32)
        for part, kind in kinds.items():
            add(f"blk.{layer}.{part}", SHAPES[part], kind, ROTATED.get(part))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def read(file, folder):
    for tensor in gguf.GGUFReader(file).tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        values.astype("<f4").tofile(folder / f"{tensor.name}.f32")


match sys.argv[1:]:
    case ["write", folder]:
        write(Path(folder))
    case ["read", file, folder]:
        read(file, Path(folder))
    case _:
        sys.exit(__doc__)
