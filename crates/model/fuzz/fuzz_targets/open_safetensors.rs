//! Whatever opens as safetensors of a small model can be read to its last row.

#![no_main]

use cwm_model::{Checkpoint, Config, LayerType, Rope};
use libfuzzer_sys::fuzz_target;

fn config() -> Config {
    Config {
        vocab_size: 4,
        hidden_size: 2,
        intermediate_size: 2,
        n_layers: 1,
        n_heads: 1,
        n_kv_heads: 1,
        head_dim: 2,
        layer_types: vec![LayerType::Full],
        sliding_window: 4,
        rms_norm_eps: 1e-5,
        rope: Rope {
            theta: 100.0,
            scaling: None,
        },
        max_position_embeddings: 8,
        n_previous_embeddings: 0,
        run_embedding: None,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_id: Vec::new(),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(checkpoint) = Checkpoint::from_safetensors(config(), bytes.to_vec()) else {
        return;
    };
    for name in checkpoint.names() {
        let tensor = checkpoint.tensor(name).expect("a name of its own");
        let mut values = vec![0.0; tensor.n_rows() * tensor.n_cols()];
        tensor.rows(0..tensor.n_rows(), &mut values).expect("its own rows");
    }
});
