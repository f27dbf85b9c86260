//! What keys and values weigh, by the configuration of a model alone.

use cwm_model::{Config, LayerType};

/// The type in which keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvElement {
    /// 4 bytes.
    F32,
    /// 2 bytes.
    Bf16,
}

impl KvElement {
    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// Bytes of keys and values under one model.
///
/// A session holds whole pages of [`PAGE`](crate::PAGE) positions: up to one page more in global
/// layers than [`KvCost::session`] says, up to two in local ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvCost {
    /// Bytes of one token in all global layers.
    pub global: usize,
    /// Bytes of one token in all local layers.
    pub local: usize,
    /// Positions that a local layer sees.
    pub window: usize,
}

impl KvCost {
    /// The cost under `config` with keys and values of type `element`.
    pub fn new(config: &Config, element: KvElement) -> Self {
        let layer = 2 * config.n_kv_heads * config.head_dim * element.bytes();
        let n_local = (config.layer_types.iter())
            .filter(|kind| **kind == LayerType::Sliding)
            .count();
        Self {
            global: layer * (config.layer_types.len() - n_local),
            local: layer * n_local,
            window: config.sliding_window,
        }
    }

    /// Bytes of a token while every layer keeps it.
    pub fn token(&self) -> usize {
        self.global + self.local
    }

    /// Bytes of a session of `tokens` tokens whose local layers keep `slack` tokens beyond their
    /// window, or everything (`None`).
    pub fn session(&self, tokens: usize, slack: Option<usize>) -> usize {
        let kept = slack.map_or(tokens, |slack| {
            tokens.min(self.window.saturating_add(slack))
        });
        tokens * self.global + kept * self.local
    }
}

#[cfg(test)]
mod tests {
    use cwm_model::Rope;

    use super::*;

    /// CWM-32B: 17 global and 47 local layers of window 8,192, 8 key/value heads of 128.
    fn cwm_32b() -> Config {
        let kind = |layer| match layer % 4 == 0 || layer == 63 {
            true => LayerType::Full,
            false => LayerType::Sliding,
        };
        Config {
            vocab_size: 128_256,
            hidden_size: 6144,
            intermediate_size: 21_504,
            n_layers: 64,
            n_heads: 48,
            n_kv_heads: 8,
            head_dim: 128,
            layer_types: (0..64).map(kind).collect(),
            sliding_window: 8192,
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

    #[test]
    fn windows_save_cwm_32b_two_thirds_at_full_length() {
        let cost = KvCost::new(&cwm_32b(), KvElement::Bf16);
        assert_eq!((cost.token(), cost.global), (262_144, 69_632));
        assert_eq!(cost.session(131_072, None), 34_359_738_368);
        assert_eq!(cost.session(131_072, Some(0)), 10_703_863_808);
        assert_eq!(cost.session(131_072, Some(2048)), 11_098_128_384);
        assert_eq!(cost.session(100, Some(0)), 100 * 262_144);
        let cost = KvCost::new(&cwm_32b(), KvElement::F32);
        assert_eq!(cost.session(131_072, Some(0)), 2 * 10_703_863_808);
    }
}
