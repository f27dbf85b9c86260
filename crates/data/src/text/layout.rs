//! The layout of rendered documents: headings, fields and fenced texts, which can be read back exactly.
//!
//! A fence is longer than any run of backticks in its text, so that no text can close it. A text
//! that does not end with a line end is followed by the line that diffs use for that.

/// Said behind a fenced text whose last line has no end.
const NO_END: &str = "\\ No newline at end of file";

/// A rendered document that cannot be read back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the text should be {expected}")]
pub struct ParseError {
    /// 1-based line.
    pub line: usize,
    /// What should be there.
    pub expected: String,
}

/// Appends a line with one `#` for each level.
pub(super) fn heading(out: &mut String, level: usize, text: &str) {
    out.push_str(&"#".repeat(level));
    out.push(' ');
    out.push_str(&one_line(text));
    out.push_str("\n\n");
}

/// Appends `name: value` as a paragraph.
pub(super) fn field(out: &mut String, name: &str, value: &str) {
    out.push_str(&format!("{name}: {}\n\n", one_line(value)));
}

/// Appends a text in a fence that names its language.
pub(super) fn block(out: &mut String, language: &str, text: &str) {
    let fence = "`".repeat(longest_run(text, '`').max(2) + 1);
    let has_end = text.is_empty() || text.ends_with('\n');
    out.push_str(&format!("{fence}{language}\n{text}"));
    if !has_end {
        out.push('\n');
    }
    out.push_str(&fence);
    out.push('\n');
    if !has_end {
        out.push_str(NO_END);
        out.push('\n');
    }
    out.push('\n');
}

/// The name of a language for a fence: the ending of a path, where it has a plain one.
pub(super) fn language_of(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or_default();
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let is_plain = ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_plain { ending } else { "" }
}

/// A text on one line, with single blanks.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The most characters `c` in a row.
pub(super) fn longest_run(text: &str, c: char) -> usize {
    let runs = text.split(|other| other != c).map(str::len);
    runs.max().unwrap_or_default()
}

/// Reads what the functions above have written.
pub(super) struct Reader<'a> {
    lines: Vec<&'a str>,
    next: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let lines = text.split('\n').collect();
        Self { lines, next: 0 }
    }

    /// Whether nothing but blank lines is left.
    pub(super) fn is_done(&self) -> bool {
        self.lines[self.next.min(self.lines.len())..]
            .iter()
            .all(|line| line.is_empty())
    }

    /// Refuses what follows the document.
    pub(super) fn end(&self) -> Result<(), ParseError> {
        if self.is_done() {
            Ok(())
        } else {
            Err(self.expected("the end of the text"))
        }
    }

    /// The text of a heading, if one of this level comes next and begins with `start`.
    pub(super) fn heading_if(&mut self, level: usize, start: &str) -> Option<&'a str> {
        let line = self.peek()?;
        let text = line.strip_prefix(&"#".repeat(level))?;
        let rest = text.strip_prefix(' ')?.strip_prefix(start)?;
        self.next += 2;
        Some(rest)
    }

    pub(super) fn heading(&mut self, level: usize, start: &str) -> Result<&'a str, ParseError> {
        self.heading_if(level, start)
            .ok_or_else(|| self.expected(&format!("a heading of level {level}, `{start}`")))
    }

    pub(super) fn field_if(&mut self, name: &str) -> Option<&'a str> {
        let value = self.peek()?.strip_prefix(name)?.strip_prefix(':')?;
        self.next += 2;
        Some(value.strip_prefix(' ').unwrap_or(value))
    }

    pub(super) fn field(&mut self, name: &str) -> Result<&'a str, ParseError> {
        self.field_if(name)
            .ok_or_else(|| self.expected(&format!("the field `{name}`")))
    }

    /// Language and text of a fence.
    pub(super) fn block(&mut self) -> Result<(&'a str, String), ParseError> {
        let open = self.peek().unwrap_or_default();
        let language = open.trim_start_matches('`');
        let fence = &open[..open.len() - language.len()];
        if fence.len() < 3 {
            return Err(self.expected("a fence"));
        }
        let begin = self.next + 1;
        let rest = self.lines[begin..].iter();
        let Some(count) = rest.clone().position(|line| *line == fence) else {
            return Err(self.expected("a fence that is closed"));
        };
        let mut text: String = rest.take(count).flat_map(|line| [line, "\n"]).collect();
        self.next = begin + count + 1;
        if self.peek() == Some(NO_END) {
            text.pop();
            self.next += 1;
        }
        self.next += 1;
        Ok((language, text))
    }

    /// A fence of one language.
    pub(super) fn block_of(&mut self, language: &str) -> Result<String, ParseError> {
        let at = self.next;
        let (found, text) = self.block()?;
        if found == language {
            return Ok(text);
        }
        self.next = at;
        Err(self.expected(&format!("a fence of `{language}`")))
    }

    /// All paragraphs up to a heading, which is read as well.
    pub(super) fn until_heading(&mut self, level: usize, text: &str) -> Result<String, ParseError> {
        let wanted = format!("{} {text}", "#".repeat(level));
        let rest = &self.lines[self.next.min(self.lines.len())..];
        let Some(count) = rest.iter().position(|line| *line == wanted) else {
            return Err(self.expected(&format!("followed by `{wanted}`")));
        };
        let found = rest[..count].join("\n");
        self.next += count + 2;
        Ok(found.trim_end_matches('\n').to_owned())
    }

    pub(super) fn expected(&self, what: &str) -> ParseError {
        ParseError {
            line: self.next + 1,
            expected: what.to_owned(),
        }
    }

    fn peek(&self) -> Option<&'a str> {
        self.lines.get(self.next).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_document_can_be_read_by_people() {
        let mut out = String::new();
        heading(&mut out, 1, "A  title\nof two lines");
        field(&mut out, "Language", "c");
        block(&mut out, "c", "int x;\n");
        block(&mut out, "", "``` a");
        assert_eq!(
            out,
            "# A title of two lines\n\nLanguage: c\n\n```c\nint x;\n```\n\n\
             ````\n``` a\n````\n\\ No newline at end of file\n\n"
        );
    }

    #[test]
    fn what_is_missing_is_named_with_its_line() {
        let mut reader = Reader::new("# T\n\nx\n");
        assert_eq!(reader.heading(1, "").as_deref(), Ok("T"));
        let error = reader.block().expect_err("no fence");
        assert_eq!(error.to_string(), "line 3 of the text should be a fence");
        assert!(reader.end().is_err());
        assert!(Reader::new("```\nx\n").block().is_err());
    }

    proptest! {
        #[test]
        fn texts_come_back(texts in prop::collection::vec("([a`\\\\#\n\r ]|No newline at end of file|\\PC){0,20}", 0..5)) {
            let mut out = String::new();
            for text in &texts {
                heading(&mut out, 2, "Part");
                block(&mut out, "python", text);
            }
            let mut reader = Reader::new(&out);
            let mut found = Vec::new();
            while !reader.is_done() {
                reader.heading(2, "Part")?;
                found.push(reader.block_of("python")?);
            }
            prop_assert_eq!(found, texts);
        }
    }
}
