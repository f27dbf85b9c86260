//! [`Program`]: what is being debugged, as text.

use std::collections::BTreeSet;

use cwm_trace::Entry;
use serde::Serialize;

/// A source file and the scope of it that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Name of the file, for messages only.
    pub file: String,
    /// Its text.
    pub source: String,
    /// Which scope runs.
    pub entry: Entry,
}

impl Program {
    /// Text of a 1-based line, without its line end.
    pub fn line(&self, number: u32) -> Option<&str> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.source.lines().nth(index)
    }

    /// Number of the last line.
    pub fn last_line(&self) -> u32 {
        u32::try_from(self.source.lines().count()).unwrap_or(u32::MAX)
    }

    /// Lines that may hold code, judged by text alone: neither blank nor a
    /// comment. A caller that can compile the program knows better.
    pub fn plausible_lines(&self) -> BTreeSet<u32> {
        (1..)
            .zip(self.source.lines())
            .filter(|(_, text)| {
                let text = text.trim_start();
                !text.is_empty() && !text.starts_with('#')
            })
            .map(|(number, _)| number)
            .collect()
    }

    /// The entry as a person would write it: `f(3)`, or the file name.
    pub fn entry_text(&self) -> String {
        match &self.entry {
            Entry::Module => self.file.clone(),
            Entry::Call { function, args } => format!("{function}({args})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_and_comment_lines_hold_no_code() {
        let program = Program {
            file: "t.py".into(),
            source: "x = 1\n\n  # why\ny = 2  # z\n".into(),
            entry: Entry::Module,
        };
        assert_eq!(program.plausible_lines(), BTreeSet::from([1, 4]));
        assert_eq!(program.line(4), Some("y = 2  # z"));
        assert_eq!((program.line(0), program.line(5)), (None, None));
        assert_eq!(program.last_line(), 4);
    }
}
