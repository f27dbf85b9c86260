//! Fresh weights, the same for the same seed on every machine.

use std::f64::consts::TAU;

use crate::{Config, Layout};

/// Standard deviation of embeddings and projections (Hugging Face's
/// `initializer_range`).
const DEVIATION: f64 = 0.02;

/// Norms 1; matrices normal with [`DEVIATION`], except that the two
/// projections that write into the residual stream are divided by
/// `sqrt(2 * n_layers)`, so that the stream's variance does not grow with
/// depth (GPT-2's rule).
pub(crate) fn parameters(config: &Config, layout: &Layout, seed: u64) -> Vec<f32> {
    let residual = DEVIATION / ((2 * config.n_layers) as f64).sqrt();
    let mut params = vec![1.0; layout.total()];
    let mut random = Normal::new(seed);
    for tensor in layout.tensors().iter().filter(|t| t.is_matrix()) {
        let writes_residual =
            tensor.name.ends_with("o_proj.weight") || tensor.name.ends_with("down_proj.weight");
        let deviation = if writes_residual { residual } else { DEVIATION };
        for value in &mut params[tensor.range()] {
            *value = (deviation * random.next()) as f32;
        }
    }
    params
}

/// Standard normal numbers: SplitMix64 through the Box-Muller transform.
struct Normal {
    state: u64,
    spare: Option<f64>,
}

impl Normal {
    fn new(seed: u64) -> Self {
        Self {
            state: seed,
            spare: None,
        }
    }

    fn next(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        // 1 - u is in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let angle = TAU * self.uniform();
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }

    /// In `[0, 1)`, 53 random bits.
    fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}
