//! Rows of one length, packed from documents of any length.
//!
//! [`Documents`] says what there is: documents that are made of units which must not be cut, such
//! as the frames of a run. [`Packed`] puts them into rows: first fit, the longest first, so that hardly a
//! position stays empty. A document that is longer than a row goes on in another one, behind its
//! context again, and so does one that fills up what would else stay empty.
//!
//! Promises: every unit stands in exactly one row, or is counted as dropped; no row is longer than
//! it may be; documents in a row do not see each other, and each counts its positions from 0; the
//! rows and their order are a function of the documents.

mod plan;

use std::collections::BTreeMap;
use std::ops::Range;

use cwm_kernels::Span;
use cwm_model::Target;

use crate::{Dataset, Example};

/// What can be packed into rows.
pub trait Documents: Send + Sync {
    /// How many documents there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many units a document has; at least one.
    fn units(&self, document: usize) -> usize;

    /// Tokens that stand before the units of a document wherever it is taken up.
    fn context(&self, document: usize) -> usize;

    /// Tokens of all units before `unit`, which may be one past the last.
    fn tokens_before(&self, document: usize, unit: usize) -> usize;

    /// Whether a document can be taken up at a unit. It can at the first.
    fn may_begin(&self, document: usize, unit: usize) -> bool;

    /// What has to be told, behind the context, before a document is taken up at a unit: the state of a run.
    fn opening(&self, document: usize, unit: usize) -> Vec<u32>;

    /// A part of a document, with its context and opening, as if it were alone in a row. No target lies in
    /// the context unless the part begins with the first unit, and none in the opening.
    fn example(&self, piece: &Piece) -> Example;

    /// Names of the kinds of targets.
    fn kinds(&self) -> Vec<String>;

    /// A hash of all documents and of what else decides the examples.
    fn fingerprint(&self) -> String;
}

/// A part of a document: some of its units, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The document.
    pub document: u32,
    /// Its units.
    pub units: Range<u32>,
    /// What is told before them.
    pub opening: Box<[u32]>,
}

/// What packing came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PackedStats {
    /// Rows made.
    pub rows: usize,
    /// Tokens in them.
    pub tokens: u64,
    /// Of these, contexts and openings that are there because a document was cut.
    pub repeated: u64,
    /// Share of the rows' positions that have a token, in 0..=1.
    pub used: f64,
    /// What was left out, by reason.
    pub dropped: BTreeMap<String, u64>,
}

impl PackedStats {
    /// Counts something that was left out.
    pub fn drop(&mut self, reason: &str, count: usize) {
        if count > 0 {
            *self.dropped.entry(reason.to_owned()).or_default() += count as u64;
        }
    }
}

/// Documents of one source in rows.
pub struct Packed {
    documents: Box<dyn Documents>,
    pieces: Vec<Piece>,
    /// Which of `pieces` are in each row.
    rows: Vec<Range<usize>>,
    row_tokens: usize,
    stats: PackedStats,
}

impl Packed {
    /// Packs documents into rows of at most `row_tokens`. `dropped` is what was left out before.
    pub fn new(
        documents: Box<dyn Documents>,
        row_tokens: usize,
        dropped: BTreeMap<String, u64>,
    ) -> Self {
        let plan = plan::fill(&*documents, row_tokens);
        let repeated = |piece: &Piece| match piece.units.start {
            0 => 0,
            _ => documents.context(piece.document as usize) + piece.opening.len(),
        };
        let mut stats = PackedStats {
            rows: plan.rows.len(),
            tokens: plan.tokens,
            repeated: plan.pieces.iter().map(|piece| repeated(piece) as u64).sum(),
            used: plan.tokens as f64 / (plan.rows.len().max(1) * row_tokens) as f64,
            dropped,
        };
        stats.drop("part longer than a row", plan.dropped);
        Self {
            documents,
            pieces: plan.pieces,
            rows: plan.rows,
            row_tokens,
            stats,
        }
    }

    /// What packing came to.
    pub fn stats(&self) -> &PackedStats {
        &self.stats
    }

    /// The parts of documents that a row is made of.
    pub fn pieces(&self, row: usize) -> &[Piece] {
        &self.pieces[self.rows[row].clone()]
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packed")
            .field("row_tokens", &self.row_tokens)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl Dataset for Packed {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn example(&self, index: usize) -> Example {
        let mut row = RowInProgress::default();
        for piece in self.pieces(index) {
            row.append(self.documents.example(piece));
        }
        row.finish()
    }

    fn fingerprint(&self) -> String {
        format!("{}x{}", self.documents.fingerprint(), self.row_tokens)
    }

    fn row_tokens(&self) -> usize {
        self.row_tokens
    }

    fn kinds(&self) -> Vec<String> {
        self.documents.kinds()
    }
}

/// Documents side by side. Targets that belong to no frame stand behind those that do, since a frame is what
/// lies between two ends.
#[derive(Default)]
struct RowInProgress {
    row: Example,
    loose: Vec<Target>,
    loose_kinds: Vec<u8>,
}

impl RowInProgress {
    fn append(&mut self, mut piece: Example) {
        let row = &mut self.row;
        let start = row.ids.len() as u32;
        row.ids.append(&mut piece.ids);
        row.positions.append(&mut piece.positions);
        row.spans.extend(piece.spans.iter().map(|span| Span {
            prefix_start: span.prefix_start + start,
            prefix_end: span.prefix_end + start,
            start: span.start + start,
        }));
        let first = row.targets.len() as u32;
        row.frames
            .extend(piece.frames.iter().map(|end| end + first));
        let framed = piece.frames.last().map_or(0, |&end| end as usize);
        for (index, target) in piece.targets.iter().enumerate() {
            let target = Target {
                row: target.row + start,
                ..*target
            };
            let (targets, kinds) = match index < framed {
                true => (&mut row.targets, &mut row.kinds),
                false => (&mut self.loose, &mut self.loose_kinds),
            };
            targets.push(target);
            kinds.push(piece.kind(index) as u8);
        }
    }

    fn finish(mut self) -> Example {
        self.row.targets.append(&mut self.loose);
        self.row.kinds.append(&mut self.loose_kinds);
        self.row
    }
}
