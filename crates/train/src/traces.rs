//! Recorded runs as a data set: the rows of [`cwm_data::pack`] with the masks
//! and targets the trainer wants.

use std::ops::Range;
use std::sync::Arc;

use cwm_data::pack::{PackedProgram, PackedRow};
use cwm_kernels::Span;
use cwm_model::Target;
use cwm_tokenizer::nano::{Codec, Offsets, Vocabulary};

use crate::batches::SplitMix64;
use crate::{Dataset, Example};

/// Largest shift of line and symbol numbers: far enough that programs longer
/// than the training programs meet no untrained token, near enough that each
/// token is seen often.
const SHIFT: u32 = 32;

/// Programs and the rows they are cut into.
#[derive(Debug)]
pub struct TraceDataset {
    vocabulary: Arc<Vocabulary>,
    programs: Vec<PackedProgram>,
    rows: Vec<(u32, Range<usize>)>,
    max_tokens: usize,
    fingerprint: String,
    shifted: bool,
}

impl TraceDataset {
    /// Cuts the programs into rows of at most `max_tokens` and keeps at most
    /// `max_rows` of each program. With `shifted`, line and symbol numbers
    /// begin at a place that depends on the row, so that all are learnt.
    pub fn new(
        programs: Vec<PackedProgram>,
        vocabulary: Arc<Vocabulary>,
        max_tokens: usize,
        max_rows: usize,
        fingerprint: String,
        shifted: bool,
    ) -> Self {
        let rows = programs
            .iter()
            .enumerate()
            .flat_map(|(i, p)| spread(p.plan(max_tokens), max_rows).map(move |r| (i as u32, r)))
            .collect();
        Self {
            vocabulary,
            programs,
            rows,
            max_tokens,
            fingerprint,
            shifted,
        }
    }

    fn offsets(&self, index: usize, program: &PackedProgram) -> Offsets {
        if !self.shifted {
            return Offsets::default();
        }
        let bits = SplitMix64(index as u64).next();
        let symbol = (bits >> 32) as u32 % SHIFT;
        // Small shifts are the common case in use, so half of the rows keep
        // the lines where they are.
        let free = Codec::MAX_LINES.saturating_sub(program.lines());
        let line = if bits & 1 == 0 || free == 0 {
            0
        } else {
            (bits >> 8) as u32 % free.min(SHIFT)
        };
        Offsets { line, symbol }
    }
}

/// At most `max` items, evenly spread from the first to the last.
fn spread<T>(items: Vec<T>, max: usize) -> impl Iterator<Item = T> {
    let (len, last) = (items.len(), max.saturating_sub(1).max(1));
    let kept: std::collections::BTreeSet<usize> = match len <= max {
        true => (0..len).collect(),
        false => (0..max).map(|i| i * (len - 1) / last).collect(),
    };
    items
        .into_iter()
        .enumerate()
        .filter_map(move |(i, item)| kept.contains(&i).then_some(item))
}

impl Dataset for TraceDataset {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn example(&self, index: usize) -> Example {
        let (program, windows) = &self.rows[index];
        let program = &self.programs[*program as usize];
        let offsets = self.offsets(index, program);
        example(&program.row(windows.clone(), offsets, &self.vocabulary))
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn row_tokens(&self) -> usize {
        self.max_tokens
    }
}

/// Masks, positions and targets of a row.
fn example(row: &PackedRow) -> Example {
    let prefix = row.prefix;
    let mut positions: Vec<u32> = (0..prefix).collect();
    let source = Span {
        prefix_start: 0,
        prefix_end: 0,
        start: 0,
    };
    let mut spans = vec![source; prefix as usize];
    for window in &row.windows {
        positions.extend((0..window.end - window.start).map(|i| prefix + i));
        let span = Span {
            prefix_start: 0,
            prefix_end: prefix,
            start: window.start,
        };
        spans.extend((window.start..window.end).map(|_| span));
    }
    let targets = row
        .predicted
        .iter()
        .map(|&i| Target {
            row: i - 1,
            id: row.ids[i as usize],
            weight: 1.0,
        })
        .collect();
    Example {
        ids: row.ids.clone(),
        positions,
        spans,
        targets,
        ..Example::default()
    }
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
            predicted: vec![6, 9],
        };
        let e = example(&row);
        assert_eq!(e.positions, [0, 1, 2, 3, 4, 5, 6, 4, 5, 6]);
        assert_eq!(
            e.spans[3],
            Span {
                prefix_start: 0,
                prefix_end: 0,
                start: 0
            }
        );
        assert_eq!(
            e.spans[8],
            Span {
                prefix_start: 0,
                prefix_end: 4,
                start: 7
            }
        );
        assert_eq!(
            e.targets.iter().map(|t| (t.row, t.id)).collect::<Vec<_>>(),
            [(5, 16), (8, 19)]
        );
    }
}
