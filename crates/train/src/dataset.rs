//! What the trainer learns from: rows of tokens with their masks and targets.
//!
//! The trainer knows nothing of programs or traces. Whoever makes the rows decides, by the spans,
//! what each token may see, and, by the targets, what is learned from it.

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
        }
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
}
