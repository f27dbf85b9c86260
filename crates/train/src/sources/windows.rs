//! Recorded runs in the `live` dialect: a document is a program, its units are the windows of its run.
//!
//! A window sees the source and itself, so windows can stand in any row behind their source.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use cwm_data::Record;
use cwm_data::pack::{Kind, PackedProgram, PackedRow};
use cwm_kernels::Span;
use cwm_model::Target;
use cwm_tokenizer::nano::{Codec, Offsets, Vocabulary};
use cwm_trace::live::Document;

use super::{Digest, weights_by_name};
use crate::Example;
use crate::batches::SplitMix64;
use crate::packed::{Documents, PackedStats, Piece};

/// Largest shift of line and symbol numbers: far enough that programs longer
/// than the training programs meet no untrained token, near enough that each
/// token is seen often.
const SHIFT: u32 = 32;

/// Where line and symbol numbers begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// As in the program.
    Plain,
    /// At a place that depends on the part of the program, so that all numbers are learnt.
    Shifted,
}

/// What the windows of a run ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The next frame, at each.
    Frames,
    /// What an action of a debugger leads to: one at each state that can be asked about.
    Jumps {
        /// Chooses the actions.
        seed: u64,
    },
}

/// Programs with the windows of their runs.
#[derive(Debug)]
pub struct Windows {
    vocabulary: Arc<Vocabulary>,
    ask: Ask,
    programs: Vec<Program>,
    numbering: Numbering,
    weights: [f32; Kind::ALL.len()],
    digest: Digest,
}

#[derive(Debug)]
struct Program {
    packed: PackedProgram,
    /// Tokens of all windows before each, and of all.
    before: Box<[u32]>,
}

impl Windows {
    /// No program yet. `weights` are those of kinds of targets that do not have weight 1.
    pub fn new(
        vocabulary: Arc<Vocabulary>,
        ask: Ask,
        numbering: Numbering,
        weights: &BTreeMap<String, f32>,
    ) -> Self {
        Self {
            vocabulary,
            ask,
            programs: Vec::new(),
            numbering,
            weights: weights_by_name(Kind::ALL.map(Kind::name), weights),
            digest: Digest::default(),
        }
    }

    /// Adds a recorded run, as much of it as fills at most `max_rows` rows of `row_tokens`. What does not fit
    /// is counted.
    pub fn push(
        &mut self,
        record: &Record,
        row_tokens: usize,
        max_rows: usize,
        stats: &mut PackedStats,
    ) {
        let document = Document::from_trace(&record.trace);
        let packed = match self.ask {
            Ask::Frames => PackedProgram::new(&document, &record.workings, &self.vocabulary),
            Ask::Jumps { seed } => PackedProgram::asked(&document, seed, &self.vocabulary),
        };
        let Ok(mut packed) = packed else {
            return stats.drop("program that the vocabulary cannot hold", 1);
        };
        let thinned = packed.thin(row_tokens, max_rows);
        stats.drop("window longer than a row", thinned.too_long);
        stats.drop("window beyond the rows of a program", thinned.surplus);
        if packed.windows() == 0 {
            return stats.drop("program without a window", 1);
        }
        let whole = packed.row(0..packed.windows(), Offsets::default(), &self.vocabulary);
        self.digest.add(&whole.ids);
        let mut sum = 0;
        let ends = packed.window_tokens().map(|tokens| {
            sum += tokens as u32;
            sum
        });
        let before = std::iter::once(0).chain(ends).collect();
        self.programs.push(Program { packed, before });
    }

    fn offsets(&self, piece: &Piece) -> Offsets {
        if self.numbering == Numbering::Plain {
            return Offsets::default();
        }
        let place = u64::from(piece.document) << 32 | u64::from(piece.units.start);
        let bits = SplitMix64(place).next();
        let symbol = (bits >> 32) as u32 % SHIFT;
        // Small shifts are the common case in use, so half of the parts keep
        // the lines where they are.
        let lines = self.programs[piece.document as usize].packed.lines();
        let free = Codec::MAX_LINES.saturating_sub(lines);
        let line = if bits & 1 == 0 || free == 0 {
            0
        } else {
            (bits >> 8) as u32 % free.min(SHIFT)
        };
        Offsets { line, symbol }
    }
}

impl Documents for Windows {
    fn len(&self) -> usize {
        self.programs.len()
    }

    fn units(&self, document: usize) -> usize {
        self.programs[document].packed.windows()
    }

    fn context(&self, document: usize) -> usize {
        self.programs[document].packed.source_tokens()
    }

    fn tokens_before(&self, document: usize, unit: usize) -> usize {
        self.programs[document].before[unit] as usize
    }

    fn may_begin(&self, _: usize, _: usize) -> bool {
        true
    }

    fn opening(&self, _: usize, _: usize) -> Vec<u32> {
        Vec::new()
    }

    fn example(&self, piece: &Piece) -> Example {
        let program = &self.programs[piece.document as usize].packed;
        let windows = piece.units.start as usize..piece.units.end as usize;
        let row = program.row(windows, self.offsets(piece), &self.vocabulary);
        example(row, &self.weights)
    }

    fn kinds(&self) -> Vec<String> {
        Kind::ALL
            .iter()
            .map(|kind| kind.name().to_owned())
            .collect()
    }

    fn fingerprint(&self) -> String {
        format!(
            "{}{:?}{:?}",
            self.digest.hex(),
            self.numbering,
            self.weights
        )
    }
}

/// Masks, positions and targets of a row. A working belongs to no frame, so its targets come last.
fn example(row: PackedRow, weights: &[f32]) -> Example {
    let (positions, spans) = masks(row.prefix, &row.windows);
    let mut example = Example {
        positions,
        spans,
        ..Example::default()
    };
    let mut loose = Vec::new();
    let mut frames = row.frames.iter().peekable();
    for (index, (&at, &kind)) in (0..).zip(row.predicted.iter().zip(&row.kinds)) {
        let target = Target {
            row: at - 1,
            id: row.ids[at as usize],
            weight: weights[kind as usize],
        };
        let framed = frames.peek().is_some_and(|frame| frame.contains(&index));
        if target.weight > 0.0 && framed && kind != Kind::Working {
            example.targets.push(target);
            example.kinds.push(kind as u8);
        } else if target.weight > 0.0 {
            loose.push((target, kind as u8));
        }
        if frames.next_if(|frame| frame.end == index + 1).is_some() {
            example.end_frame();
        }
    }
    for (target, kind) in loose {
        example.targets.push(target);
        example.kinds.push(kind);
    }
    example.ids = row.ids;
    example
}

/// Positions and spans: every window goes on from the source and sees it and itself.
fn masks(prefix: u32, windows: &[Range<u32>]) -> (Vec<u32>, Vec<Span>) {
    let mut positions: Vec<u32> = (0..prefix).collect();
    let source = Span::causal_from(0);
    let mut spans = vec![source; prefix as usize];
    for window in windows {
        positions.extend((0..window.end - window.start).map(|i| prefix + i));
        let span = Span {
            prefix_start: 0,
            prefix_end: prefix,
            start: window.start,
        };
        spans.extend((window.start..window.end).map(|_| span));
    }
    (positions, spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_see_the_source_and_themselves() {
        let row = PackedRow {
            ids: (10..20).collect(),
            prefix: 4,
            windows: vec![4..7, 7..10],
            predicted: vec![5, 6, 9],
            kinds: vec![Kind::Working, Kind::State, Kind::Action],
            frames: vec![0..2, 2..3],
        };
        let e = example(row.clone(), &[1.0; 4]);
        assert_eq!(e.positions, [0, 1, 2, 3, 4, 5, 6, 4, 5, 6]);
        assert_eq!(e.spans[3], Span::causal_from(0));
        assert_eq!(
            e.spans[8],
            Span {
                prefix_start: 0,
                prefix_end: 4,
                start: 7
            }
        );
        let targets = |e: &Example| e.targets.iter().map(|t| (t.row, t.id)).collect::<Vec<_>>();
        assert_eq!(targets(&e), [(5, 16), (8, 19), (4, 15)], "the working last");
        assert_eq!((&e.kinds[..], &e.frames[..]), (&[2, 1, 0][..], &[1, 2][..]));

        let e = example(row, &[0.0, 1.0, 0.0, 1.0]);
        assert_eq!(targets(&e), [(8, 19)]);
        assert_eq!((&e.kinds[..], &e.frames[..]), (&[1][..], &[1][..]));
    }
}
