//! From recorded runs to training rows.
//!
//! A row holds one program's source once, and after it as many
//! [windows](cwm_trace::live::Window) of its run as fit. Every window sees the
//! source and itself, never another window, and its positions go on from the
//! end of the source: exactly what a predictor sees that forks the source's
//! cache. Only pieces that a model must produce are targets, and each of them
//! is of a [`Kind`].

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use cwm_tokenizer::nano::{Codec, CodecError, Offsets, Vocabulary};
use cwm_trace::live::{Document, Machine, Mark, Piece, Window, Workings, asked};

/// What a token is that a model must produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A step of a working, which is scratch paper and no part of a frame.
    Working,
    /// What happens, and where: the kind of the frame and the line that follows.
    Action,
    /// A variable and its value: what a line changed, or an argument of a call.
    State,
    /// What is returned, yielded or raised.
    Output,
}

impl Kind {
    /// All of them, each at the index that it has as a number.
    pub const ALL: [Self; 4] = [Self::Working, Self::Action, Self::State, Self::Output];

    /// Its name in logs and settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Action => "action",
            Self::State => "state",
            Self::Output => "output",
        }
    }
}

/// Tells what each piece of a window is, given the pieces before it.
#[derive(Debug)]
struct Sorter {
    part: Part,
}

/// Where in the pieces of a frame one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// At its beginning, or among the variables that a line changed.
    #[default]
    Changes,
    /// In a step of a working.
    Working,
    /// Behind the mark of a call: its line, then its arguments. The states that jumps lead to are written alike.
    Call,
    /// Behind the mark of a resumption: its line.
    Resume,
    /// Behind the mark of a value that leaves the scope.
    Output,
}

impl Sorter {
    /// For the pieces of a window, which asks for a frame or for what a jump leads to.
    fn new(window: &Window) -> Self {
        let is_state = window.pieces.iter().any(|word| {
            let mark = match word.piece {
                Piece::Mark(mark) if !word.predicted => mark,
                _ => return false,
            };
            matches!(mark, Mark::Until | Mark::Before | Mark::Into | Mark::Input)
        });
        let part = if is_state { Part::Call } else { Part::Changes };
        Self { part }
    }

    /// The kind of the next piece that must be produced, and whether a frame ends behind it.
    fn next(&mut self, piece: &Piece) -> (Kind, bool) {
        let (kind, part, ends) = match (self.part, piece) {
            (_, Piece::Mark(Mark::Work)) => (Kind::Working, Part::Working, false),
            (Part::Working, Piece::Mark(Mark::Item)) => (Kind::Working, Part::Changes, false),
            (Part::Working, _) => (Kind::Working, Part::Working, false),
            (_, Piece::Mark(Mark::Call)) => (Kind::Action, Part::Call, false),
            (_, Piece::Mark(Mark::Resume)) => (Kind::Action, Part::Resume, false),
            (_, Piece::Mark(Mark::Return | Mark::Yield | Mark::Exception)) => {
                (Kind::Action, Part::Output, false)
            }
            (_, Piece::Mark(Mark::Unwind | Mark::Normal | Mark::Error)) => {
                (Kind::Action, Part::Changes, true)
            }
            (Part::Call, Piece::Line(_)) => (Kind::Action, Part::Call, false),
            (Part::Call, Piece::Mark(Mark::End)) => (Kind::State, Part::Changes, true),
            (_, Piece::Line(_) | Piece::Choice(_)) => (Kind::Action, Part::Changes, true),
            (Part::Output, Piece::Mark(Mark::Item)) => (Kind::Output, Part::Changes, true),
            (Part::Output, _) => (Kind::Output, Part::Output, false),
            (part, _) => (Kind::State, part, false),
        };
        self.part = part;
        (kind, ends)
    }
}

/// The windows of one program as ids, encoded without offsets.
#[derive(Clone, Debug)]
pub struct PackedProgram {
    source: Box<[u16]>,
    windows: Vec<PackedWindow>,
    lines: u32,
}

#[derive(Clone, Debug)]
struct PackedWindow {
    ids: Box<[u16]>,
    /// Indexes into `ids` that must be predicted.
    predicted: Box<[u32]>,
    /// What each of `predicted` is.
    kinds: Box<[Kind]>,
    /// Which of `predicted` each frame is made of.
    frames: Box<[Range<u32>]>,
}

/// Windows that [`PackedProgram::thin`] left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thinned {
    /// Longer than a row, together with the source.
    pub too_long: usize,
    /// More than were wanted of one program.
    pub surplus: usize,
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
    /// What each of `predicted` is.
    pub kinds: Vec<Kind>,
    /// Which of `predicted` each frame is made of, with the working before it. What stands in no frame
    /// belongs to one that the recording cut off.
    pub frames: Vec<Range<u32>>,
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
        let windows = Machine::windows(document, workings);
        Self::encode(document, &windows, vocabulary)
    }

    /// Encodes questions about a run with their [answers](asked), which `seed` chooses.
    ///
    /// # Errors
    /// [`CodecError`] when the program does not fit the vocabulary.
    pub fn asked(
        document: &Document,
        seed: u64,
        vocabulary: &Arc<Vocabulary>,
    ) -> Result<Self, CodecError> {
        Self::encode(document, &asked(document, seed), vocabulary)
    }

    fn encode(
        document: &Document,
        windows: &[Window],
        vocabulary: &Arc<Vocabulary>,
    ) -> Result<Self, CodecError> {
        let codec = Codec::new(vocabulary.clone(), &document.source, Offsets::default())?;
        let windows = windows
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

    /// Tokens of the source.
    pub fn source_tokens(&self) -> usize {
        self.source.len()
    }

    /// How many windows there are.
    pub fn windows(&self) -> usize {
        self.windows.len()
    }

    /// Tokens of each window, in order.
    pub fn window_tokens(&self) -> impl Iterator<Item = usize> {
        self.windows.iter().map(|window| window.ids.len())
    }

    /// Leaves out windows that do not fit into `max_tokens` beside the source, and as many others
    /// as make more than `max_rows` rows: what stays is spread evenly over the run.
    pub fn thin(&mut self, max_tokens: usize, max_rows: usize) -> Thinned {
        let room = max_tokens.saturating_sub(self.source.len());
        let all = self.windows.len();
        self.windows.retain(|window| window.ids.len() <= room);
        let fitting = self.windows.len();
        let rows = self.rows(room);
        if rows.len() > max_rows {
            let kept: BTreeSet<usize> = spread(rows.len(), max_rows)
                .flat_map(|row| rows[row].clone())
                .collect();
            let mut index = 0..;
            self.windows
                .retain(|_| index.next().is_some_and(|index| kept.contains(&index)));
        }
        Thinned {
            too_long: all - fitting,
            surplus: fitting - self.windows.len(),
        }
    }

    /// The windows in stretches of at most `room` tokens.
    fn rows(&self, room: usize) -> Vec<Range<usize>> {
        let mut rows = Vec::new();
        let (mut start, mut tokens) = (0, 0);
        for (index, window) in self.windows.iter().enumerate() {
            if tokens + window.ids.len() > room && start < index {
                rows.push(start..index);
                (start, tokens) = (index, 0);
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
            let (start, first) = (row.ids.len() as u32, row.predicted.len() as u32);
            row.ids.extend(window.ids.iter().map(shift));
            row.windows.push(start..row.ids.len() as u32);
            let predicted = window.predicted.iter();
            row.predicted.extend(predicted.map(|index| start + index));
            row.kinds.extend(&window.kinds);
            let frames = window.frames.iter();
            row.frames
                .extend(frames.map(|frame| first + frame.start..first + frame.end));
        }
        row
    }
}

/// At most `max` of `0..len`, evenly spread from the first to the last.
fn spread(len: usize, max: usize) -> impl Iterator<Item = usize> {
    let last = max.saturating_sub(1).max(1);
    (0..max.min(len)).map(move |index| match len <= max {
        true => index,
        false => index * (len - 1) / last,
    })
}

impl PackedWindow {
    fn new(window: &Window, codec: &Codec) -> Result<Self, CodecError> {
        let mut ids = Vec::new();
        let (mut predicted, mut kinds) = (Vec::new(), Vec::new());
        let mut frames = Vec::new();
        let mut sorter = Sorter::new(window);
        let mut frame = 0;
        for piece in &window.pieces {
            let start = ids.len();
            codec.encode(&piece.piece, &mut ids)?;
            if piece.predicted {
                let (kind, ends) = sorter.next(&piece.piece);
                predicted.extend(start as u32..ids.len() as u32);
                kinds.resize(predicted.len(), kind);
                if ends {
                    let end = predicted.len() as u32;
                    frames.push(std::mem::replace(&mut frame, end)..end);
                }
            }
        }
        Ok(Self {
            ids: ids.into_iter().map(|id| id as u16).collect(),
            predicted: predicted.into(),
            kinds: kinds.into(),
            frames: frames.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_spread_from_the_first_to_the_last() {
        let found = |len, max| spread(len, max).collect::<Vec<_>>();
        assert_eq!(found(2, 3), [0, 1]);
        assert_eq!(found(9, 3), [0, 4, 8]);
        assert_eq!(found(9, 1), [0]);
        assert_eq!(found(0, 3), [0; 0]);
    }
}
