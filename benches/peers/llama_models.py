"""Writes models of random weights as GGUF for llama.cpp, in the shapes of `cwm bench --model preset:NAME`.

    python benches/peers/llama_models.py FOLDER [NAME ...]

Needs the packages gguf and numpy. Each model is FOLDER/NAME-f16.gguf; llama-quantize makes the others of it.
"""

import pathlib
import sys

import gguf
import numpy

# vocabulary, width, layers, query heads, key/value heads, MLP width, tied embeddings
SHAPES = {
    "m30": (16384, 512, 7, 8, 4, 1536, True),
    "m160": (32768, 1024, 12, 16, 4, 2816, True),
    "p20": (8192, 384, 8, 6, 2, 1024, False),
    "p160": (32768, 768, 16, 12, 4, 2816, False),
}
HEAD = 64


def write(path, shape):
    vocabulary, width, layers, heads, kv_heads, inner, tied = shape
    random = numpy.random.default_rng(1)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(32768)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(HEAD)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e6)
    writer.add_vocab_size(vocabulary)
    writer.add_tokenizer_model("none")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)

    def matrix(name, rows, columns):
        values = random.standard_normal((rows, columns), dtype=numpy.float32) * 0.02
        writer.add_tensor(name, values.astype(numpy.float16))

    def norm(name):
        writer.add_tensor(name, numpy.ones(width, dtype=numpy.float32))

    matrix("token_embd.weight", vocabulary, width)
    norm("output_norm.weight")
    if not tied:
        matrix("output.weight", vocabulary, width)
    for layer in range(layers):
        block = "blk.%d." % layer
        norm(block + "attn_norm.weight")
        matrix(block + "attn_q.weight", heads * HEAD, width)
        matrix(block + "attn_k.weight", kv_heads * HEAD, width)
        matrix(block + "attn_v.weight", kv_heads * HEAD, width)
        matrix(block + "attn_output.weight", width, heads * HEAD)
        norm(block + "ffn_norm.weight")
        matrix(block + "ffn_gate.weight", inner, width)
        matrix(block + "ffn_up.weight", inner, width)
        matrix(block + "ffn_down.weight", width, inner)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or ["m30", "m160"]:
        write(folder / (name + "-f16.gguf"), SHAPES[name])


if __name__ == "__main__":
    main()
