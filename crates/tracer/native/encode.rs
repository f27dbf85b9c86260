//! Records of the log, byte by byte. The table of the format is in `src/log.rs` of the crate.

use crate::intern::{Interned, Place, SHORTEST};
use crate::render::{HAS_DETAIL, Rendered};
use crate::shadow::Change;

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Call = 0,
    Resume = 1,
    Line = 2,
    Return = 3,
    Yield = 4,
    Unwind = 5,
    Exception = 6,
}

/// The head of a record that names one more variable of a module or class body.
const NAME: u8 = 7 | 1 << 3;
/// Added to the flags of a value that is an edit of the variable's last text.
const EDIT: u8 = 4;
const IS_EXPLICIT: u8 = 8;
const HAS_CHANGES: u8 = 16;
/// The steps from line to line 0, 1, 2, 3, -1, -2, -3 have codes of their own; this one is for all others.
const ANY_STEP: u8 = 7;

/// A record in the making, and the texts that earlier ones hold.
#[derive(Default)]
pub struct Encoder {
    pub record: Vec<u8>,
    interned: Interned,
    /// Where the key of the last change is, 0 before the first.
    last_key: usize,
}

impl Encoder {
    /// `activation` is given where it is not the innermost one that runs.
    #[inline(always)]
    pub fn begin(&mut self, kind: Kind, activation: Option<u64>, function: Option<u64>, step: i32) {
        let record = &mut self.record;
        record.clear();
        self.last_key = 0;
        let code = match step {
            0..=3 => step as u8,
            -3..=-1 => (3 - step) as u8,
            _ => ANY_STEP,
        };
        record.push(kind as u8 | code << 5);
        if let Some(number) = activation {
            record[0] |= IS_EXPLICIT;
            uint(record, number);
        }
        if let Some(number) = function {
            uint(record, number);
        }
        if code == ANY_STEP {
            uint(record, ((step << 1) ^ (step >> 31)) as u32 as u64);
        }
    }

    /// `last` is what a rebound variable showed before.
    pub fn change(&mut self, variable: usize, change: Change, shown: &Rendered, last: &Rendered) {
        match self.last_key {
            0 => self.record[0] |= HAS_CHANGES,
            // The lowest bit of a key says that another follows.
            at => self.record[at] |= 1,
        }
        self.last_key = self.record.len();
        let is_bound = change != Change::Unbound;
        uint(&mut self.record, (variable as u64) << 2 | u64::from(is_bound) << 1);
        if !is_bound {
            return;
        }
        let is_edited = change == Change::Rebound && shown.flags & HAS_DETAIL == 0;
        let place = self.place(&shown.repr);
        if is_edited && matches!(place, Place::New) && self.edit(shown, &last.repr) {
            return;
        }
        self.value_at(shown, place);
    }

    pub fn value(&mut self, shown: &Rendered) {
        let place = self.place(&shown.repr);
        self.value_at(shown, place);
    }

    fn value_at(&mut self, shown: &Rendered, place: Place) {
        if shown.flags != 0 {
            uint(&mut self.record, u64::from(shown.flags) << 2 | 2);
        }
        self.text(&shown.repr, place);
        if shown.flags & HAS_DETAIL != 0 {
            let place = self.place(&shown.detail);
            self.text(&shown.detail, place);
        }
    }

    fn place(&mut self, text: &[u8]) -> Place {
        if text.len() < SHORTEST { Place::Passing } else { self.interned.place(text) }
    }

    #[inline(always)]
    fn text(&mut self, text: &[u8], place: Place) {
        let form = match place {
            Place::Known(number) => return uint(&mut self.record, number << 2 | 1),
            Place::New => 3,
            Place::Passing => 0,
        };
        uint(&mut self.record, (text.len() as u64) << 2 | form);
        self.record.extend_from_slice(text);
    }

    /// Writes only what lies between the beginning and the end that a text shares with the last one, if
    /// they share enough.
    fn edit(&mut self, shown: &Rendered, last: &[u8]) -> bool {
        let text = &*shown.repr;
        let mut start = common_start(text, last);
        let mut end = common_end(&text[start..], &last[start..]);
        // Not within a character.
        let splits = |text: &[u8], at: usize| text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
        while splits(text, start) || splits(last, start) {
            start -= 1;
        }
        while splits(text, text.len() - end) || splits(last, last.len() - end) {
            end -= 1;
        }
        if start + end < SHORTEST / 2 {
            return false;
        }
        let middle = &text[start..text.len() - end];
        uint(&mut self.record, u64::from(shown.flags | EDIT) << 2 | 2);
        uint(&mut self.record, start as u64);
        uint(&mut self.record, end as u64);
        uint(&mut self.record, middle.len() as u64);
        self.record.extend_from_slice(middle);
        true
    }
}

/// How many bytes two texts begin with together, compared eight at a time.
fn common_start(a: &[u8], b: &[u8]) -> usize {
    let mut count = 0;
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        let differing = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differing != 0 {
            return count + differing.trailing_zeros() as usize / 8;
        }
        count += 8;
    }
    let rest = a[count..].iter().zip(&b[count..]);
    count + rest.take_while(|(a, b)| a == b).count()
}

/// How many bytes they end with together.
fn common_end(a: &[u8], b: &[u8]) -> usize {
    let mut count = 0;
    for (a, b) in a.as_rchunks::<8>().1.iter().rev().zip(b.as_rchunks::<8>().1.iter().rev()) {
        let differing = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differing != 0 {
            return count + differing.leading_zeros() as usize / 8;
        }
        count += 8;
    }
    let (a, b) = (&a[..a.len() - count], &b[..b.len() - count]);
    let rest = a.iter().rev().zip(b.iter().rev());
    count + rest.take_while(|(a, b)| a == b).count()
}

/// The record that gives the next variable of a module or class body its name.
pub fn name_record(function: u64, name: &[u8]) -> Vec<u8> {
    let mut record = vec![NAME];
    uint(&mut record, function);
    uint(&mut record, name.len() as u64);
    record.extend(name);
    record
}

/// The record that says that no more than so many events were recorded.
pub fn end_record(events: u64) -> Vec<u8> {
    let mut record = vec![7 | 2 << 3, 3];
    uint(&mut record, events);
    record
}

/// Appends a number as LEB128.
pub fn uint(out: &mut Vec<u8>, mut number: u64) {
    while number > 127 {
        out.push(number as u8 & 127 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}
