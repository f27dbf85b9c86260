//! Makes unified diffs, by the greedy algorithm of Myers ("An O(ND) Difference Algorithm", 1986).

use std::fmt::Write as _;

/// A file before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// Path and text before; `None` if the file is new.
    pub old: Option<(&'a str, &'a str)>,
    /// Path and text afterwards; `None` if the file is gone.
    pub new: Option<(&'a str, &'a str)>,
}

/// The most lines that may go and come in one file. The search keeps a table whose size grows with
/// the square: this many take 9 MB.
pub const MAX_EDITS: usize = 1500;

/// Lines around a change.
const CONTEXT: usize = 3;

/// The diff of one file as git writes it, without the line that names blobs; empty if nothing
/// changes. `None` if more than [`MAX_EDITS`] lines differ.
pub fn diff(change: Change) -> Option<String> {
    let (old_path, old_text) = change.old.unwrap_or_default();
    let (new_path, new_text) = change.new.unwrap_or_default();
    let old: Vec<&str> = old_text.split_inclusive('\n').collect();
    let new: Vec<&str> = new_text.split_inclusive('\n').collect();
    let edits = edits(&old, &new)?;
    let is_renamed = change.old.is_some() && change.new.is_some() && old_path != new_path;
    let has_edits = edits.iter().any(|edit| *edit != Edit::Keep);
    let is_change = has_edits || is_renamed || change.old.is_some() != change.new.is_some();
    let mut out = String::new();
    if !is_change {
        return Some(out);
    }
    let first = if change.old.is_some() {
        old_path
    } else {
        new_path
    };
    let second = if change.new.is_some() {
        new_path
    } else {
        old_path
    };
    let mut line = |text: std::fmt::Arguments| writeln!(out, "{text}").expect("a string grows");
    line(format_args!("diff --git a/{first} b/{second}"));
    match (change.old, change.new) {
        (None, _) => line(format_args!("new file mode 100644")),
        (_, None) => line(format_args!("deleted file mode 100644")),
        _ if is_renamed => {
            line(format_args!("rename from {old_path}"));
            line(format_args!("rename to {new_path}"));
        }
        _ => {}
    }
    if has_edits {
        line(format_args!("--- {}", side("a/", change.old)));
        line(format_args!("+++ {}", side("b/", change.new)));
        write_hunks(&mut out, &old, &new, &edits);
    }
    Some(out)
}

fn side(prefix: &str, file: Option<(&str, &str)>) -> String {
    match file {
        // As git does, so that programs find the end of a path with blanks.
        Some((path, _)) if path.contains(' ') => format!("{prefix}{path}\t"),
        Some((path, _)) => format!("{prefix}{path}"),
        None => "/dev/null".to_owned(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit {
    Keep,
    Remove,
    Add,
}

/// The shortest way from the old lines to the new ones.
fn edits(old: &[&str], new: &[&str]) -> Option<Vec<Edit>> {
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = old.iter().zip(new).take_while(same).count();
    let (old, new) = (&old[head..], &new[head..]);
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(same)
        .count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    let mut all = vec![Edit::Keep; head];
    all.extend(shortest(old, new)?);
    all.extend(vec![Edit::Keep; tail]);
    Some(all)
}

/// Myers' search forward, with every front kept, then the way back through them.
fn shortest(old: &[&str], new: &[&str]) -> Option<Vec<Edit>> {
    let most = (old.len() + new.len()).min(MAX_EDITS);
    let mut fronts: Vec<Vec<usize>> = Vec::new();
    for depth in 0..=most {
        let mut front = Vec::with_capacity(depth + 1);
        // Diagonal k = x - y runs from -depth to depth in steps of 2; its place in a front is (k +
        // depth) / 2.
        for place in 0..=depth {
            let x = start_of(fronts.last(), place, depth);
            let y = x + depth - 2 * place;
            let is_inside = x <= old.len() && y <= new.len();
            let run = if is_inside {
                let rest = old[x..].iter().zip(&new[y..]);
                rest.take_while(|(a, b)| a == b).count()
            } else {
                0
            };
            front.push(x + run);
            if x + run == old.len() && y + run == new.len() {
                fronts.push(front);
                return Some(way_back(&fronts, old.len(), new.len()));
            }
        }
        fronts.push(front);
    }
    None
}

/// Where a diagonal begins at a depth: below the one at its right, or right of the one at its left,
/// whichever is further.
fn start_of(last: Option<&Vec<usize>>, place: usize, depth: usize) -> usize {
    let Some(last) = last else { return 0 };
    let down = last.get(place).copied();
    let right = place.checked_sub(1).map(|place| last[place] + 1);
    match (down, right) {
        (Some(down), Some(right)) if place < depth => down.max(right),
        (Some(down), _) if place < depth => down,
        (_, right) => right.unwrap_or_default(),
    }
}

fn way_back(fronts: &[Vec<usize>], old_len: usize, new_len: usize) -> Vec<Edit> {
    let (mut x, mut y) = (old_len, new_len);
    let mut edits = Vec::new();
    for depth in (1..fronts.len()).rev() {
        let last = &fronts[depth - 1];
        let place = (x + depth - y) / 2;
        let down = last.get(place).copied().filter(|_| place < depth);
        let start = start_of(Some(last), place, depth);
        edits.extend(vec![Edit::Keep; x - start]);
        y -= x - start;
        x = start;
        if down == Some(start) {
            edits.push(Edit::Add);
            y -= 1;
        } else {
            edits.push(Edit::Remove);
            x -= 1;
        }
    }
    edits.extend(vec![Edit::Keep; x]);
    edits.reverse();
    edits
}

fn write_hunks(out: &mut String, old: &[&str], new: &[&str], edits: &[Edit]) {
    let changed = (0..edits.len()).filter(|&at| edits[at] != Edit::Keep);
    let mut groups: Vec<(usize, usize)> = Vec::new();
    for at in changed {
        match groups.last_mut() {
            Some((_, end)) if at <= *end + 2 * CONTEXT => *end = at + 1,
            _ => groups.push((at, at + 1)),
        }
    }
    let (mut done, mut x, mut y) = (0, 0, 0);
    for (start, end) in groups {
        let (start, end) = (
            start.saturating_sub(CONTEXT),
            (end + CONTEXT).min(edits.len()),
        );
        x += start - done;
        y += start - done;
        let part = &edits[start..end];
        let old_count = part.iter().filter(|edit| **edit != Edit::Add).count();
        let new_count = part.iter().filter(|edit| **edit != Edit::Remove).count();
        let head = format!("@@ -{} +{} @@\n", range(x, old_count), range(y, new_count));
        out.push_str(&head);
        for line in ordered(part, &old[x..], &new[y..]) {
            out.push_str(&line);
        }
        (x, y, done) = (x + old_count, y + new_count, end);
    }
}

fn range(before: usize, count: usize) -> String {
    match count {
        0 => format!("{before},0"),
        1 => format!("{}", before + 1),
        _ => format!("{},{count}", before + 1),
    }
}

/// The lines of a hunk; within a change, those that go come first.
fn ordered(edits: &[Edit], old: &[&str], new: &[&str]) -> Vec<String> {
    let (mut old, mut new) = (old.iter(), new.iter());
    let mut lines = Vec::with_capacity(edits.len());
    for run in edits.chunk_by(|a, b| (*a == Edit::Keep) == (*b == Edit::Keep)) {
        let removed = run.iter().filter(|edit| **edit != Edit::Add).count();
        let added = run.iter().filter(|edit| **edit == Edit::Add).count();
        let mark = if run[0] == Edit::Keep { ' ' } else { '-' };
        lines.extend(old.by_ref().take(removed).map(|text| marked(mark, text)));
        if mark == ' ' {
            new.by_ref().take(removed).for_each(drop);
        }
        lines.extend(new.by_ref().take(added).map(|text| marked('+', text)));
    }
    lines
}

fn marked(mark: char, line: &str) -> String {
    let end = if line.ends_with('\n') {
        ""
    } else {
        "\n\\ No newline at end of file\n"
    };
    format!("{mark}{line}{end}")
}
