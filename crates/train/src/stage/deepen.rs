//! Making a model deeper before it is trained further.
//!
//! New layers stand after the first `k` of the old ones and begin as their copies, with zeros where they would add to
//! the residual stream: in the attention's output projection and in the MLP's down projection. So a deeper model
//! computes what the old one did, and training opens the new layers from there. Only those two matrices have gradients
//! at the first step; the copies behind them are what they are multiplied by.

use cwm_model::{Config, LayerTensors, Layout, Model};

use super::StageError;

/// The key of a stage file that this is for.
const KEY: &str = "model.num_hidden_layers";

/// The model with `n_layers` layers, whose logits are those of `model`.
///
/// # Errors
/// When that is not more layers than it has, or more than twice as many.
pub(super) fn deepen(model: &Model, n_layers: usize) -> Result<Model, StageError> {
    let old = model.config.n_layers;
    let n_new = n_new_layers(old, n_layers)?;
    let config = deeper_config(&model.config, n_new);
    config
        .validate()
        .map_err(|error| StageError::wrong(KEY, format!("cannot work: {error}")))?;
    let layout = Layout::new(&config);
    let mut params = Vec::with_capacity(layout.total());
    let [from, to] = [&*model.layout, &layout].map(bounds);
    params.extend_from_slice(&model.params[..from.0]);
    for place in 0..n_layers {
        let source = &model.layout.layers()[source_of(place, n_new)];
        let begin = params.len();
        params.extend_from_slice(&model.params[whole(source)]);
        if (n_new..2 * n_new).contains(&place) {
            let at = whole(source).start;
            for silent in [&source.o, &source.down] {
                params[begin + silent.start - at..begin + silent.end - at].fill(0.0);
            }
        }
    }
    debug_assert_eq!(params.len(), to.1, "layers lie one after another");
    params.extend_from_slice(&model.params[from.1..]);
    Ok(Model {
        config,
        layout: layout.into(),
        params,
    })
}

/// How many layers are added.
fn n_new_layers(old: usize, wanted: usize) -> Result<usize, StageError> {
    let reason = match wanted.checked_sub(old) {
        None => {
            format!("is {wanted}, but the model has {old} layers; a model can only be made deeper")
        }
        Some(0) => format!("is {wanted}, which the model has already; leave the key out"),
        Some(more) if more > old => format!(
            "is {wanted}, more than twice the {old} layers that the model has; make it deeper in two stages"
        ),
        Some(more) => return Ok(more),
    };
    Err(StageError::wrong(KEY, reason))
}

/// The old layer that the layer at `place` is, or is a copy of.
fn source_of(place: usize, n_new: usize) -> usize {
    match place < n_new {
        true => place,
        false => place - n_new,
    }
}

fn deeper_config(config: &Config, n_new: usize) -> Config {
    let n_layers = config.n_layers + n_new;
    let layer_type = |place| config.layer_types[source_of(place, n_new)];
    Config {
        n_layers,
        layer_types: (0..n_layers).map(layer_type).collect(),
        ..config.clone()
    }
}

/// Where a layer lies in the vector of parameters.
fn whole(layer: &LayerTensors) -> std::ops::Range<usize> {
    layer.attention_norm.start..layer.down.end
}

/// Where the first layer begins and the last one ends.
fn bounds(layout: &Layout) -> (usize, usize) {
    let layers = layout.layers();
    let end = |layer: &LayerTensors| whole(layer).end;
    (
        layers.first().map_or(0, |layer| whole(layer).start),
        layers.last().map_or(0, end),
    )
}

#[cfg(test)]
mod tests {
    use cwm_model::LayerType::{Full, Sliding};

    use super::*;
    use crate::Tokenizer;
    use crate::stage::Size;

    /// A model whose layers all differ, and in kind too.
    fn model() -> Model {
        let config = Config {
            n_layers: 3,
            layer_types: vec![Full, Sliding, Full],
            sliding_window: 4,
            ..Size::Tiny.config(&Tokenizer::nano())
        };
        Model::init(config, 11)
    }

    #[test]
    fn a_deeper_model_computes_the_same() {
        let model = model();
        let ids: Vec<u32> = (0..40).map(|i| i * 7 % 300).collect();
        let before = model.logits(&ids).expect("ids of the vocabulary");
        for n_layers in [4, 5, 6] {
            let deeper = deepen(&model, n_layers).expect("at most twice as many");
            assert_eq!(deeper.config.n_layers, n_layers);
            let after = deeper.logits(&ids).expect("ids of the vocabulary");
            let bits = |logits: &[f32]| logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&after), bits(&before), "{n_layers} layers");
        }
    }

    #[test]
    fn new_layers_are_silent_copies_behind_those_that_they_copy() {
        let model = model();
        let deeper = deepen(&model, 5).expect("at most twice as many");
        assert_eq!(
            deeper.config.layer_types,
            [Full, Sliding, Full, Sliding, Full]
        );
        assert_eq!(deeper.params.len(), deeper.layout.total());
        // Old layer of each new one, and whether it is a copy.
        let order = [(0, false), (1, false), (0, true), (1, true), (2, false)];
        for tensor in deeper.layout.tensors() {
            let words: Vec<&str> = tensor.name.split('.').collect();
            let (name, is_copy) = match words[..] {
                ["model", "layers", place, ..] => {
                    let (old, is_copy) = order[place.parse::<usize>().expect("a number")];
                    let name = tensor.name.replacen(place, &old.to_string(), 1);
                    (name, is_copy)
                }
                _ => (tensor.name.clone(), false),
            };
            let found = &deeper.params[tensor.range()];
            if is_copy && ["o_proj", "down_proj"].contains(&tensor.kind()) {
                assert!(found.iter().all(|weight| *weight == 0.0), "{}", tensor.name);
            } else {
                let old = model
                    .layout
                    .tensor(&name)
                    .expect("a tensor of the old model");
                assert!(found == &model.params[old.range()], "{}", tensor.name);
            }
        }
    }

    #[test]
    fn a_model_is_made_deeper_and_no_more_than_twice_as_deep() {
        for (n_layers, part) in [
            (0, "can only be made deeper"),
            (2, "can only be made deeper"),
            (3, "has already"),
            (7, "in two stages"),
            (usize::MAX, "in two stages"),
        ] {
            let error = deepen(&model(), n_layers).expect_err(part).to_string();
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }
}
