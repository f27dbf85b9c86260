//! Reads a unified diff of any number of files.

/// One file of a diff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDiff {
    /// Its path before; `None` if it is new.
    pub old: Option<String>,
    /// Its path afterwards; `None` if it is gone.
    pub new: Option<String>,
    /// What is different, in order.
    pub hunks: Vec<Hunk>,
}

/// Lines that change, with those around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hunk {
    /// First line before, 1-based; the line that precedes the hunk if it covers none.
    pub old_start: usize,
    /// First line afterwards, in the same way.
    pub new_start: usize,
    /// The lines, each with its end unless it has none.
    pub lines: Vec<Line>,
}

/// A line of a hunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Stays.
    Context(String),
    /// Goes.
    Removed(String),
    /// Comes.
    Added(String),
}

/// Why a text is no diff.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// A line is none that can stand here.
    #[error("line {0} is not what follows in a unified diff")]
    Line(usize),
    /// A path is quoted, as git does where it has control characters, quotes or backslashes.
    #[error("line {0} has a quoted path, which is not supported")]
    Quoted(usize),
    /// The diff is of a binary file, which it does not hold.
    #[error("line {0} stands for a binary change")]
    Binary(usize),
    /// A hunk is shorter or longer than its head says.
    #[error("the hunk at line {0} has other numbers of lines than it says")]
    Count(usize),
}

/// Lines between `diff --git` and `---` that change no text.
const EXTENDED: [&str; 10] = [
    "old mode ",
    "new mode ",
    "deleted file mode ",
    "new file mode ",
    "similarity index ",
    "dissimilarity index ",
    "index ",
    "copy from ",
    "copy to ",
    "rename ",
];

struct Lines<'a> {
    all: Vec<&'a str>,
    next: usize,
}

impl<'a> Lines<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.all.get(self.next).copied()
    }

    fn take(&mut self) -> Option<&'a str> {
        let line = self.peek();
        self.next += usize::from(line.is_some());
        line
    }

    fn take_if(&mut self, start: &str) -> Option<&'a str> {
        let rest = self.peek()?.strip_prefix(start)?;
        self.next += 1;
        Some(rest)
    }
}

/// Reads a diff as `git diff` writes it.
///
/// # Errors
/// [`DiffError`], with the 1-based line.
pub fn parse(text: &str) -> Result<Vec<FileDiff>, DiffError> {
    // A carriage return belongs to the line it ends: only `\n` separates.
    let mut all: Vec<&str> = text.split('\n').collect();
    if all.last() == Some(&"") {
        all.pop();
    }
    let mut lines = Lines { all, next: 0 };
    let mut files = Vec::new();
    while lines.peek().is_some() {
        files.push(file(&mut lines)?);
    }
    Ok(files)
}

fn file(lines: &mut Lines) -> Result<FileDiff, DiffError> {
    let head = lines.next + 1;
    let names = lines.take_if("diff --git ").ok_or(DiffError::Line(head))?;
    if names.starts_with('"') || names.ends_with('"') {
        return Err(DiffError::Quoted(head));
    }
    let (mut old, mut new) = same_names(names);
    let (mut is_new, mut is_gone) = (false, false);
    while let Some(line) = lines.peek() {
        if let Some(path) = line.strip_prefix("rename from ") {
            old = Some(path.to_owned());
        } else if let Some(path) = line.strip_prefix("rename to ") {
            new = Some(path.to_owned());
        } else if line.starts_with("Binary files ") || line == "GIT binary patch" {
            return Err(DiffError::Binary(lines.next + 1));
        } else if !EXTENDED.iter().any(|start| line.starts_with(start)) {
            break;
        }
        is_new |= line.starts_with("new file mode ");
        is_gone |= line.starts_with("deleted file mode ");
        lines.next += 1;
    }
    let mut hunks = Vec::new();
    if let Some(path) = lines.take_if("--- ") {
        old = side(path, "a/", lines.next)?;
        let path = lines
            .take_if("+++ ")
            .ok_or(DiffError::Line(lines.next + 1))?;
        new = side(path, "b/", lines.next)?;
        while lines.peek().is_some_and(|line| line.starts_with("@@ ")) {
            hunks.push(hunk(lines)?);
        }
    }
    if is_new {
        old = None;
    }
    if is_gone {
        new = None;
    }
    if old.is_none() && new.is_none() {
        return Err(DiffError::Line(head));
    }
    Ok(FileDiff { old, new, hunks })
}

/// Both paths of `a/PATH b/PATH`, where they are the same; a rename says them again in lines of their own.
fn same_names(names: &str) -> (Option<String>, Option<String>) {
    let middle = names.len() / 2;
    let halves = names.split_at_checked(middle);
    let paths = halves.and_then(|(left, right)| {
        let left = left.strip_prefix("a/")?;
        (left == right.strip_prefix(" b/")?).then(|| left.to_owned())
    });
    (paths.clone(), paths)
}

fn side(path: &str, prefix: &str, line: usize) -> Result<Option<String>, DiffError> {
    // git ends a path with a tab if it has blanks.
    let path = path.strip_suffix('\t').unwrap_or(path);
    if path.starts_with('"') {
        return Err(DiffError::Quoted(line));
    }
    if path == "/dev/null" {
        return Ok(None);
    }
    let path = path.strip_prefix(prefix).ok_or(DiffError::Line(line))?;
    Ok(Some(path.to_owned()))
}

fn hunk(lines: &mut Lines) -> Result<Hunk, DiffError> {
    let head = lines.next + 1;
    let (old, new) = lines.take().and_then(ranges).ok_or(DiffError::Line(head))?;
    let (mut old_left, mut new_left) = (old.1, new.1);
    let mut found = Vec::new();
    while old_left > 0 || new_left > 0 {
        let line = lines.take().ok_or(DiffError::Count(head))?;
        // Some programs strip the blank of an empty line.
        let (mark, text) = line.split_at_checked(1).unwrap_or((" ", ""));
        let (takes_old, takes_new) = (mark != "+", mark != "-");
        if usize::from(takes_old) > old_left || usize::from(takes_new) > new_left {
            return Err(DiffError::Count(head));
        }
        old_left -= usize::from(takes_old);
        new_left -= usize::from(takes_new);
        let has_end = lines.take_if("\\ ").is_none();
        let text = format!("{text}{}", if has_end { "\n" } else { "" });
        found.push(match mark {
            " " => Line::Context(text),
            "-" => Line::Removed(text),
            "+" => Line::Added(text),
            _ => return Err(DiffError::Count(head)),
        });
    }
    Ok(Hunk {
        old_start: old.0,
        new_start: new.0,
        lines: found,
    })
}

type Range = (usize, usize);

/// `@@ -1,2 +3,4 @@` and whatever follows.
fn ranges(line: &str) -> Option<(Range, Range)> {
    let (old, rest) = line.strip_prefix("@@ -")?.split_once(" +")?;
    let (new, _) = rest.split_once(" @@")?;
    Some((range(old)?, range(new)?))
}

fn range(text: &str) -> Option<Range> {
    match text.split_once(',') {
        Some((start, count)) => Some((start.parse().ok()?, count.parse().ok()?)),
        None => Some((text.parse().ok()?, 1)),
    }
}
