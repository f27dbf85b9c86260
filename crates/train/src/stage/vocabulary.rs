//! Giving a model the tokens that its vocabulary has gained since.
//!
//! Tokens are only ever added behind those there are, so the rows of a model stay where they were. A new row begins as
//! the mean of the old ones, with the noise of a fresh row, which tells it from the others that are new.

use cwm_model::{Config, Model, TensorSpec};

/// The model with `vocab_size` tokens; itself where it has as many or more.
pub(super) fn grow(model: Model, vocab_size: usize, seed: u64) -> Model {
    let old = model.config.vocab_size;
    if old >= vocab_size {
        return model;
    }
    let config = Config {
        vocab_size,
        ..model.config.clone()
    };
    let mut grown = Model::init(config, seed);
    let layout = grown.layout.clone();
    for tensor in layout.tensors() {
        let known = model.layout.tensor(&tensor.name).map(TensorSpec::range);
        let known = &model.params[known.unwrap_or_default()];
        let params = &mut grown.params[tensor.range()];
        let (first, new) = params.split_at_mut(known.len());
        first.copy_from_slice(known);
        if !new.is_empty() {
            let width = known.len() / old;
            for (column, mean) in means(known, width).into_iter().enumerate() {
                for row in new.chunks_exact_mut(width) {
                    row[column] += mean;
                }
            }
        }
    }
    grown
}

/// The mean of each column of rows of `width`.
fn means(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; width];
    for row in rows.chunks_exact(width) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    let count = (rows.len() / width) as f64;
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}

#[cfg(test)]
mod tests {
    use cwm_tokenizer::nano::Vocabulary;

    use super::*;
    use crate::Tokenizer;
    use crate::stage::Size;

    #[test]
    fn what_a_model_knew_stays() {
        let vocabulary = Vocabulary::default().len();
        let older = Vocabulary::without_jumps().len();
        let config = Config {
            vocab_size: older,
            ..Size::Tiny.config(&Tokenizer::nano())
        };
        let model = Model::init(config, 3);
        let ids: Vec<u32> = (0..50).map(|i| i * 11 % older as u32).collect();
        let before = model.logits(&ids).expect("ids of the vocabulary");
        let grown = grow(model, vocabulary, 5);
        assert_eq!(grown.config.vocab_size, vocabulary);
        let after = grown.logits(&ids).expect("ids of the vocabulary");
        for (before, after) in before.chunks(older).zip(after.chunks(vocabulary)) {
            assert_eq!(before, &after[..older]);
            let new = &after[older..];
            assert!(new.windows(2).all(|pair| pair[0] != pair[1]), "{new:?}");
        }
        assert_eq!(grow(grown.clone(), vocabulary, 7).params, grown.params);
    }
}
