//! From recorded runs to training rows.
//!
//! A row holds one program's source once, and after it as many
//! [windows](cwm_trace::live::Window) of its run as fit. Every window sees the
//! source and itself, never another window, and its positions go on from the
//! end of the source: exactly what a predictor sees that forks the source's
//! cache. Only pieces that a model must produce are targets.

use std::ops::Range;
use std::sync::Arc;

use cwm_tokenizer::nano::{Codec, CodecError, Offsets, Vocabulary};
use cwm_trace::live::{Document, Machine, Window, Workings};

/// The windows of one program as ids, encoded without offsets.
#[derive(Clone, Debug)]
pub struct PackedProgram {
    source: Box<[u16]>,
    windows: Box<[PackedWindow]>,
    lines: u32,
}

#[derive(Clone, Debug)]
struct PackedWindow {
    ids: Box<[u16]>,
    /// Indexes into `ids` that must be predicted.
    predicted: Box<[u16]>,
}

/// One training row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedRow {
    /// Source, then windows.
    pub ids: Vec<u32>,
    /// Length of the source.
    pub prefix: u32,
    /// Where each window lies in `ids`.
    pub windows: Vec<Range<u32>>,
    /// Indexes into `ids` that must be predicted from the token before.
    pub predicted: Vec<u32>,
}

impl PackedProgram {
    /// Encodes a run, with the working of its frames where there is one.
    ///
    /// # Errors
    /// [`CodecError`] when the program does not fit the vocabulary.
    pub fn new(
        document: &Document,
        workings: &Workings,
        vocabulary: &Arc<Vocabulary>,
    ) -> Result<Self, CodecError> {
        let codec = Codec::new(vocabulary.clone(), &document.source, Offsets::default())?;
        let windows = Machine::windows(document, workings)
            .iter()
            .map(|w| PackedWindow::new(w, &codec))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            source: codec.source().iter().map(|&id| id as u16).collect(),
            windows,
            lines: document.source.lines().count() as u32,
        })
    }

    /// Lines of the source, which bound the line offset of a row.
    pub fn lines(&self) -> u32 {
        self.lines
    }

    /// Which windows go into which row of at most `max_tokens`, in order.
    /// Windows longer than `max_tokens` less the source are left out; a
    /// program none of whose windows fits gives no rows.
    pub fn plan(&self, max_tokens: usize) -> Vec<Range<usize>> {
        let mut rows = Vec::new();
        let mut start = 0;
        let mut tokens = self.source.len();
        for (i, window) in self.windows.iter().enumerate() {
            if tokens + window.ids.len() > max_tokens {
                if start < i {
                    rows.push(start..i);
                }
                start = i;
                tokens = self.source.len();
                if tokens + window.ids.len() > max_tokens {
                    start = i + 1;
                    continue;
                }
            }
            tokens += window.ids.len();
        }
        if start < self.windows.len() {
            rows.push(start..self.windows.len());
        }
        rows
    }

    /// The row with these windows.
    pub fn row(
        &self,
        windows: Range<usize>,
        offsets: Offsets,
        vocabulary: &Vocabulary,
    ) -> PackedRow {
        let shift = |&id: &u16| offsets.shift(vocabulary, u32::from(id));
        let mut row = PackedRow {
            ids: self.source.iter().map(shift).collect(),
            prefix: self.source.len() as u32,
            ..PackedRow::default()
        };
        for window in &self.windows[windows] {
            let start = row.ids.len() as u32;
            row.ids.extend(window.ids.iter().map(shift));
            row.windows.push(start..row.ids.len() as u32);
            row.predicted
                .extend(window.predicted.iter().map(|&i| start + u32::from(i)));
        }
        row
    }
}

impl PackedWindow {
    fn new(window: &Window, codec: &Codec) -> Result<Self, CodecError> {
        let mut ids = Vec::new();
        let mut predicted = Vec::new();
        for piece in &window.pieces {
            let start = ids.len();
            codec.encode(&piece.piece, &mut ids)?;
            if piece.predicted {
                predicted.extend((start..ids.len()).map(|i| i as u16));
            }
        }
        Ok(Self {
            ids: ids.into_iter().map(|id| id as u16).collect(),
            predicted: predicted.into(),
        })
    }
}
