//! What keys and values weigh, by the configuration of a model alone.

use cwm_kernels::KvFormat;
use cwm_model::{Config, LayerType};

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
    /// The cost under `config` with keys and values held in `format`.
    pub fn new(config: &Config, format: KvFormat) -> Self {
        let layer = 2 * config.n_kv_heads * config.head_dim * format.n_bytes();
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
    use super::*;

    #[test]
    fn windows_save_cwm_32b_two_thirds_at_full_length() {
        let config = Config::preset("cwm-32b").expect("a preset");
        let cost = KvCost::new(&config, KvFormat::Bf16);
        assert_eq!((cost.token(), cost.global), (262_144, 69_632));
        assert_eq!(cost.session(131_072, None), 34_359_738_368);
        assert_eq!(cost.session(131_072, Some(0)), 10_703_863_808);
        assert_eq!(cost.session(131_072, Some(2048)), 11_098_128_384);
        assert_eq!(cost.session(100, Some(0)), 100 * 262_144);
        let cost = KvCost::new(&config, KvFormat::F32);
        assert_eq!(cost.session(131_072, Some(0)), 2 * 10_703_863_808);
    }
}
