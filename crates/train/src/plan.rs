//! What is updated how, and by whom: the parameters cut into pieces, the pieces spread over ranks.
//!
//! Promises: pieces lie one after another in the flat vector of parameters and cover every tensor;
//! they follow from layout and settings alone, so that sums made piece by piece have the same bits
//! on any number of ranks.

use std::ops::Range;

use cwm_kernels::AdamW;
use cwm_model::Layout;

use crate::config::{Optimizer, OptimizerKind};

/// AdamW tensors are cut into pieces of this many elements, to balance threads and ranks.
const PIECE: usize = 1 << 17;
/// Cost of one AdamW element in multiply-adds of Muon's matrix products: AdamW waits for memory
/// (about 3 ns an element) while a core does about 50 multiply-adds a nanosecond.
const ADAMW_COST: usize = 150;

/// How a piece is updated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    /// Part of a tensor, or all of it.
    AdamW(AdamWGroup),
    /// A whole matrix.
    Muon { rows: usize, cols: usize },
}

/// The AdamW parameters that share a learning rate and a decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AdamWGroup {
    embedding: bool,
    decay: bool,
}

impl AdamWGroup {
    pub(crate) fn settings(self, settings: &Optimizer, multiplier: f64) -> AdamW {
        let lr = match self.embedding {
            true => settings.embedding_lr.unwrap_or(settings.lr),
            false => settings.lr,
        };
        AdamW {
            lr: (f64::from(lr) * multiplier) as f32,
            beta1: settings.betas[0],
            beta2: settings.betas[1],
            eps: settings.eps,
            weight_decay: match self.decay {
                true => settings.weight_decay,
                false => 0.0,
            },
        }
    }
}

/// A run of parameters that one worker updates at a time.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Where it lies in the flat vector.
    pub(crate) params: Range<usize>,
    /// Where its second moments lie among all second moments; empty for Muon.
    pub(crate) second: Range<usize>,
    pub(crate) rule: Rule,
}

impl Piece {
    /// Rows and columns of a matrix that follows Muon.
    pub(crate) fn muon_shape(&self) -> Option<(usize, usize)> {
        match self.rule {
            Rule::Muon { rows, cols } => Some((rows, cols)),
            Rule::AdamW(_) => None,
        }
    }

    /// In multiply-adds.
    pub(crate) fn cost(&self) -> usize {
        let len = self.params.len();
        match self.rule {
            Rule::AdamW(_) => len * ADAMW_COST,
            Rule::Muon { rows, cols } => {
                let n = rows.min(cols);
                5 * (2 * n * len + n * n * n)
            }
        }
    }
}

/// A tensor and where its moments lie.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) params: Range<usize>,
    pub(crate) second: Range<usize>,
}

/// Everything that is updated, in the order of the flat vector.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) pieces: Vec<Piece>,
}

/// What one rank updates: consecutive pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) pieces: Range<usize>,
    pub(crate) params: Range<usize>,
    pub(crate) second: Range<usize>,
}

impl Plan {
    pub(crate) fn new(layout: &Layout, settings: &Optimizer) -> Self {
        let mut specs: Vec<_> = layout.tensors().iter().collect();
        specs.sort_by_key(|spec| spec.offset);
        let (mut tensors, mut pieces) = (Vec::new(), Vec::new());
        let mut second = 0;
        for spec in specs {
            let params = spec.offset..spec.offset + spec.len;
            let rule = rule(&spec.name, &spec.shape, settings);
            let start = second;
            match rule {
                Rule::Muon { .. } => pieces.push(Piece {
                    params: params.clone(),
                    second: second..second,
                    rule,
                }),
                Rule::AdamW(_) => {
                    for from in params.clone().step_by(PIECE) {
                        let params = from..params.end.min(from + PIECE);
                        let end = second + params.len();
                        pieces.push(Piece {
                            params,
                            second: second..end,
                            rule,
                        });
                        second = end;
                    }
                }
            }
            tensors.push(Tensor {
                name: spec.name.clone(),
                shape: spec.shape.clone(),
                params,
                second: start..second,
            });
        }
        Self { tensors, pieces }
    }

    /// The shards of `ranks` ranks: of about the same cost, in order, together everything.
    pub(crate) fn shards(&self, ranks: usize) -> Vec<Shard> {
        let whole: usize = self.pieces.iter().map(Piece::cost).sum();
        let mut shards = Vec::with_capacity(ranks);
        let (mut start, mut done) = (0, 0);
        for rank in 0..ranks {
            let goal = whole as u128 * (rank as u128 + 1) / ranks as u128;
            let mut end = start;
            while end < self.pieces.len()
                && (rank + 1 == ranks || ((done + self.pieces[end].cost()) as u128) <= goal)
            {
                done += self.pieces[end].cost();
                end += 1;
            }
            shards.push(self.shard(start..end));
            start = end;
        }
        shards
    }

    /// What a rank alone updates.
    pub(crate) fn whole(&self) -> Shard {
        self.shard(0..self.pieces.len())
    }

    fn shard(&self, pieces: Range<usize>) -> Shard {
        let covered = |of: fn(&Piece) -> &Range<usize>| {
            let inside = &self.pieces[pieces.clone()];
            // Without a piece, an empty range where the next piece begins.
            let next = self.pieces.get(pieces.start).map(of);
            let start =
                next.map_or_else(|| self.pieces.last().map_or(0, |p| of(p).end), |r| r.start);
            start..inside.last().map_or(start, |piece| of(piece).end)
        };
        Shard {
            params: covered(|piece| &piece.params),
            second: covered(|piece| &piece.second),
            pieces,
        }
    }
}

/// Muon is for matrices between hidden layers; embeddings and head map from and to tokens, whose
/// rows should learn at paces of their own.
fn rule(name: &str, shape: &[usize], settings: &Optimizer) -> Rule {
    match (settings.kind, shape) {
        (OptimizerKind::Muon, &[rows, cols]) if name.ends_with("_proj.weight") => {
            Rule::Muon { rows, cols }
        }
        _ => Rule::AdamW(AdamWGroup {
            embedding: name.starts_with("model.embed_"),
            decay: settings.decay_all || shape.len() > 1,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cwm_model::{Config, LayerType, Rope};

    fn layout() -> Layout {
        Layout::new(&Config {
            vocab_size: 5000,
            hidden_size: 64,
            intermediate_size: 96,
            n_layers: 3,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 16,
            layer_types: vec![LayerType::Full; 3],
            sliding_window: 8,
            rms_norm_eps: 1e-5,
            rope: Rope {
                theta: 10_000.0,
                scaling: None,
            },
            max_position_embeddings: 64,
            n_previous_embeddings: 0,
            run_embedding: None,
            tie_word_embeddings: false,
            bos_token_id: None,
            eos_token_id: vec![0],
        })
    }

    #[test]
    fn shards_cover_everything_once_and_in_order() {
        let layout = layout();
        for settings in [Optimizer::adamw(1e-3), Optimizer::muon(0.02, 1e-3)] {
            let plan = Plan::new(&layout, &settings);
            let whole = plan.whole();
            assert_eq!(whole.params, 0..layout.total());
            for ranks in 1..=40 {
                let shards = plan.shards(ranks);
                assert_eq!(shards.len(), ranks);
                let (mut pieces, mut params, mut second) = (0, 0, 0);
                for shard in &shards {
                    assert_eq!(shard.pieces.start, pieces);
                    assert_eq!(shard.params.start, params, "{ranks} ranks");
                    assert_eq!(shard.second.start, second);
                    (pieces, params, second) =
                        (shard.pieces.end, shard.params.end, shard.second.end);
                }
                assert_eq!((pieces, params), (plan.pieces.len(), layout.total()));
                assert_eq!(second, whole.second.end);
            }
            let cost = |shard: &Shard| -> usize {
                plan.pieces[shard.pieces.clone()]
                    .iter()
                    .map(Piece::cost)
                    .sum()
            };
            let two = plan.shards(2);
            let largest = plan.pieces.iter().map(Piece::cost).max().unwrap_or(0);
            assert!(cost(&two[0]).abs_diff(cost(&two[1])) <= 2 * largest);
        }
    }
}
