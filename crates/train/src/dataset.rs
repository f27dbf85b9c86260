//! What the trainer learns from: rows of tokens with their masks and targets.
//!
//! The trainer knows nothing of programs or traces. Whoever makes the rows decides, by the spans,
//! what each token may see, and, by the targets, what is learned from it.

use std::ops::Range;

use cwm_kernels::Span;
use cwm_model::{Row, Target, causal_spans};

/// One training row, owned. Several packed documents may share a row.
#[derive(Clone, Debug, Default)]
pub struct Example {
    /// Token ids, `T` of them.
    pub ids: Vec<u32>,
    /// Rotary position of each token.
    pub positions: Vec<u32>,
    /// What each token sees.
    pub spans: Vec<Span>,
    /// What is predicted, from which row, and how much it counts.
    pub targets: Vec<Target>,
    /// What each target is: an index into [`Dataset::kinds`], beside `targets`. Empty: all are of
    /// kind 0.
    pub kinds: Vec<u8>,
    /// Where in `targets` each predicted frame ends, rising. Empty where a row has no frames.
    pub frames: Vec<u32>,
    /// Where it comes from: an index into [`Dataset::sources`].
    pub source: u16,
}

impl Example {
    /// A single document in which every token but the first is predicted with weight 1.
    pub fn causal(ids: Vec<u32>) -> Self {
        let targets = (0u32..)
            .zip(ids.iter().skip(1))
            .map(|(row, &id)| Target {
                row,
                id,
                weight: 1.0,
            })
            .collect();
        Self {
            positions: (0u32..).take(ids.len()).collect(),
            spans: causal_spans(ids.len()),
            ids,
            targets,
            ..Self::default()
        }
    }

    /// What the target at `index` is.
    pub fn kind(&self, index: usize) -> usize {
        self.kinds.get(index).copied().unwrap_or_default().into()
    }

    /// Sum of the weights of the targets.
    pub fn weight(&self) -> f64 {
        self.targets
            .iter()
            .map(|target| f64::from(target.weight))
            .sum()
    }

    /// The borrowed form that the model takes.
    pub fn row(&self) -> Row<'_> {
        Row {
            ids: &self.ids,
            positions: &self.positions,
            spans: &self.spans,
            targets: &self.targets,
        }
    }
}

/// A finite, indexable set of examples.
///
/// `example` must be a pure function of its index: a resumed run asks for the same examples again.
pub trait Dataset: Sync {
    /// How many examples there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The example at `index`, which is below [`len`](Dataset::len).
    fn example(&self, index: usize) -> Example;

    /// A string that identifies the data, such as the hash of its files. A run refuses to resume
    /// on data with another fingerprint.
    fn fingerprint(&self) -> String;

    /// Tokens of a full example: a batch takes as many examples as make up its tokens if all are
    /// full, so that which examples a step takes depends on nothing but its number.
    fn row_tokens(&self) -> usize;

    /// Names of what targets can be, such as `action`. Losses are told apart by them.
    fn kinds(&self) -> Vec<String> {
        vec!["token".to_owned()]
    }

    /// Names of the sources that examples come from. Losses are told apart by them.
    fn sources(&self) -> Vec<String> {
        self.parts().into_iter().map(|part| part.name).collect()
    }

    /// The parts that batches are mixed from: one for each source, in order, which together cover
    /// all indexes.
    fn parts(&self) -> Vec<Part> {
        vec![Part {
            name: "data".to_owned(),
            examples: 0..self.len(),
            share: 1.0,
        }]
    }
}

/// The examples of one source, and how often they are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Name of the source.
    pub name: String,
    /// Where its examples lie in the data set; not empty.
    pub examples: Range<usize>,
    /// How often it is drawn, beside the shares of the other parts; they need not add up to 1.
    pub share: f64,
}

/// Examples held in memory.
#[derive(Clone, Debug)]
pub struct Examples {
    examples: Vec<Example>,
    fingerprint: String,
}

impl Examples {
    /// A data set of `examples` under a name that identifies them.
    pub fn new(examples: Vec<Example>, fingerprint: impl Into<String>) -> Self {
        Self {
            examples,
            fingerprint: fingerprint.into(),
        }
    }
}

impl Dataset for Examples {
    fn len(&self) -> usize {
        self.examples.len()
    }

    fn example(&self, index: usize) -> Example {
        self.examples[index].clone()
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn row_tokens(&self) -> usize {
        let lengths = self.examples.iter().map(|example| example.ids.len());
        lengths.max().unwrap_or(1).max(1)
    }
}
