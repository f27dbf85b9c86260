//! Shapes that have a name: what measurements are made on.

use crate::{Config, LayerType, Rope};

/// Vocabulary, width, layers, query heads, key/value heads, MLP width, tied embeddings.
type Shape = (usize, usize, usize, usize, usize, usize, bool);

const SHAPES: [(&str, Shape); 6] = [
    ("m30", (16_384, 512, 7, 8, 4, 1_536, true)),
    ("m160", (32_768, 1_024, 12, 16, 4, 2_816, true)),
    ("m1b", (128_256, 2_048, 16, 32, 8, 8_192, true)),
    ("p20", (8_192, 384, 8, 6, 2, 1_024, false)),
    ("p60", (2_048, 640, 12, 10, 5, 1_792, false)),
    ("p160", (32_768, 768, 16, 12, 4, 2_816, false)),
];

impl Config {
    /// Names that [`Config::preset`] knows.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        SHAPES.iter().map(|(name, _)| *name).chain(["cwm-32b"])
    }

    /// The config of a named shape: `cwm-32b` is that of Meta's Code World Model (17 global layers
    /// and 47 with a window of 8,192); the others are plain Llamas with heads of 64 and global
    /// attention, of 19 million (`p20`) to 1.2 billion (`m1b`) parameters.
    pub fn preset(name: &str) -> Option<Self> {
        if name == "cwm-32b" {
            return Some(cwm_32b());
        }
        let (_, shape) = SHAPES.iter().find(|(known, _)| *known == name)?;
        let (vocab_size, hidden_size, n_layers, n_heads, n_kv_heads, intermediate_size, tied) =
            *shape;
        Some(Self {
            vocab_size,
            hidden_size,
            intermediate_size,
            n_layers,
            n_heads,
            n_kv_heads,
            head_dim: 64,
            layer_types: vec![LayerType::Full; n_layers],
            sliding_window: 32_768,
            max_position_embeddings: 32_768,
            tie_word_embeddings: tied,
            ..cwm_32b()
        })
    }
}

fn cwm_32b() -> Config {
    let n_layers = 64;
    let kind = |layer| match layer % 4 == 0 || layer + 1 == n_layers {
        true => LayerType::Full,
        false => LayerType::Sliding,
    };
    Config {
        vocab_size: 128_256,
        hidden_size: 6_144,
        intermediate_size: 21_504,
        n_layers,
        n_heads: 48,
        n_kv_heads: 8,
        head_dim: 128,
        layer_types: (0..n_layers).map(kind).collect(),
        sliding_window: 8_192,
        rms_norm_eps: 1e-5,
        rope: Rope {
            theta: 1e6,
            scaling: None,
        },
        max_position_embeddings: 131_072,
        n_previous_embeddings: 0,
        run_embedding: None,
        tie_word_embeddings: false,
        bos_token_id: None,
        eos_token_id: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_have_the_sizes_they_are_named_for() {
        let millions = |name| {
            let config = Config::preset(name).expect("a preset");
            config.validate().expect("a valid config");
            (config.n_params() as f64 / 1e5).round() / 10.0
        };
        let sizes: Vec<_> = Config::presets().map(millions).collect();
        assert_eq!(sizes, [30.4, 168.8, 1235.8, 18.9, 58.7, 179.3, 32_581.1]);
        assert_eq!(Config::preset("m31"), None);
    }
}
