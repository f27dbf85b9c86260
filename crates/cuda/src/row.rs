//! Rows of training data side by side, prepared on the host for the device.
//!
//! A GPU wants many tokens at once. Rows are laid one after another into one long row, in which each sees
//! only itself; all that a pass has to know of them (which vectors make up an embedding, who sees whom,
//! what is added up where) is worked out here, on any thread, while the device computes.

use cwm_kernels::Span;
use cwm_model::{Config, LayerType, Layout, Lookups, Row, Target, window_spans};

use crate::ops::{NO_SOURCE, SegmentLists};
use crate::tiles::Tiles;

/// Spans with the tiles that follow from them.
#[derive(Clone, Debug)]
pub(crate) struct Mask {
    pub(crate) spans: Vec<Span>,
    pub(crate) tiles: Tiles,
}

/// Targets that go through the head at once.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) rows: Vec<u32>,
    pub(crate) ids: Vec<u32>,
    pub(crate) weights: Vec<f32>,
    /// From gradients of the chunk's rows to the row's residual stream.
    pub(crate) scatter: SegmentLists,
}

/// One or more rows, checked, as one pass takes them.
#[derive(Clone, Debug)]
pub struct PackedRow {
    pub(crate) positions: Vec<u32>,
    /// Of each token: where in the parameters the vectors begin that its embedding is the sum of.
    pub(crate) sources: Vec<u32>,
    pub(crate) sources_per_token: usize,
    /// From gradients of embeddings to those of the tables.
    pub(crate) to_tables: SegmentLists,
    /// Of full layers.
    pub(crate) full: Mask,
    /// Of sliding layers, if the model has any.
    pub(crate) sliding: Option<Mask>,
    pub(crate) chunks: Vec<Chunk>,
}

impl PackedRow {
    /// Prepares rows for one pass; those without targets cost what the others do, so leave them out.
    ///
    /// # Errors
    /// When a row does not fit the model or itself, with its index among `rows`.
    pub fn new(
        config: &Config,
        layout: &Layout,
        rows: &[Row<'_>],
    ) -> Result<Self, (usize, cwm_model::Error)> {
        let mut packed = Packing::default();
        for (index, row) in rows.iter().enumerate() {
            let lookups = Lookups::new(config, layout, row);
            let lookups = lookups.map_err(|error| (index, error.into()))?;
            packed.push(row, &lookups);
        }
        Ok(packed.finish(config))
    }

    /// Tokens.
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Predictions that count, in the order of the rows and of their targets.
    pub fn n_targets(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.rows.len()).sum()
    }
}

/// Targets in a chunk: few launches, and 256 MiB of logits at most.
pub(crate) fn head_rows(config: &Config) -> usize {
    ((64 << 20) / config.vocab_size.max(1)).clamp(128, 16_384)
}

#[derive(Default)]
struct Packing {
    positions: Vec<u32>,
    spans: Vec<Span>,
    sources: Vec<u32>,
    per_token: usize,
    targets: Vec<Target>,
}

impl Packing {
    fn push(&mut self, row: &Row<'_>, lookups: &Lookups) {
        let first = self.positions.len() as u32;
        self.positions.extend_from_slice(row.positions);
        self.spans.extend(row.spans.iter().map(|span| Span {
            prefix_start: span.prefix_start + first,
            prefix_end: span.prefix_end + first,
            start: span.start + first,
        }));
        self.targets.extend(row.targets.iter().map(|target| Target {
            row: target.row + first,
            ..*target
        }));
        let start = |start: &Option<usize>| start.map_or(NO_SOURCE, |start| start as u32);
        self.sources.extend(lookups.starts.iter().map(start));
        self.per_token = lookups.per_token;
    }

    fn finish(self, config: &Config) -> PackedRow {
        let sliding = config.layer_types.contains(&LayerType::Sliding).then(|| {
            let mut spans = Vec::new();
            window_spans(
                &mut spans,
                &self.spans,
                &self.positions,
                config.sliding_window,
            );
            Mask::new(spans)
        });
        let per_token = self.per_token.max(1);
        let added = self.sources.iter().enumerate();
        let added = added.filter(|(_, source)| **source != NO_SOURCE);
        let to_tables = added.map(|(at, &source)| (source, (at / per_token) as u32));
        let to_tables = SegmentLists::new(to_tables);
        let hidden = config.hidden_size as u32;
        let chunk = |targets: &[Target]| Chunk {
            rows: targets.iter().map(|target| target.row).collect(),
            ids: targets.iter().map(|target| target.id).collect(),
            weights: targets.iter().map(|target| target.weight).collect(),
            scatter: SegmentLists::new(
                targets
                    .iter()
                    .enumerate()
                    .map(|(at, target)| (target.row * hidden, at as u32)),
            ),
        };
        PackedRow {
            to_tables,
            chunks: self.targets.chunks(head_rows(config)).map(chunk).collect(),
            positions: self.positions,
            sources: self.sources,
            sources_per_token: self.per_token,
            full: Mask::new(self.spans),
            sliding,
        }
    }
}

impl Mask {
    fn new(spans: Vec<Span>) -> Self {
        Self {
            tiles: Tiles::new(&spans),
            spans,
        }
    }
}
