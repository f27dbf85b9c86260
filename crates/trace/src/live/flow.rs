//! Which lines may run after which, from the block structure alone.
//!
//! A decoder that picks the next line needs to choose only among the lines
//! that control can reach. The answer here is a *superset*: every step that
//! CPython takes is allowed (recorded runs are the test), some that it never
//! takes are too. Where the structure says nothing sure (an exception is on
//! its way, a `match`), all lines of the scope are allowed.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::outline::{LineKind, Outline};

/// Stands for the end of the scope among lines, which count from 1.
const END: u32 = 0;

/// What the first word of a statement means for control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keyword {
    If,
    Elif,
    Else,
    For,
    While,
    /// `while True` and the like, whose test is compiled away.
    Forever,
    Try,
    Except,
    Finally,
    With,
    Return,
    Raise,
    Break,
    Continue,
    /// `match` and `case`: not followed.
    Match,
    /// Leaves no event of its own in some or all versions.
    Silent,
    Decorator,
    Plain,
}

impl Keyword {
    /// Whether it goes on with a statement that another keyword began.
    fn is_clause(self) -> bool {
        matches!(self, Self::Elif | Self::Else | Self::Except | Self::Finally)
    }
}

/// A statement that begins on a line of its own.
#[derive(Clone, Copy, Debug)]
struct Statement {
    line: u32,
    depth: u16,
    scope: u32,
    keyword: Keyword,
    /// Last line of its text, continuations included.
    text_end: u32,
    /// Whether an indented block follows.
    has_block: bool,
}

/// The control flow of a source text.
#[derive(Clone, Debug)]
pub struct Flow {
    statements: Vec<Statement>,
    /// Index of the statement of each line (0-based lines).
    statement_of: Vec<Option<usize>>,
}

impl Flow {
    /// Reads the control flow of `source`, whose outline is given.
    pub fn new(source: &str, outline: &Outline) -> Self {
        let texts: Vec<&str> = source.lines().collect();
        let mut statements: Vec<Statement> = Vec::new();
        let mut statement_of = vec![None; outline.len() as usize];
        for number in 1..=outline.len() {
            let Some(info) = outline.line(number) else {
                continue;
            };
            match info.kind {
                LineKind::Blank => continue,
                LineKind::Continuation => {
                    if let Some(last) = statements.last_mut() {
                        last.text_end = number;
                    }
                }
                _ => statements.push(Statement {
                    line: number,
                    depth: info.depth,
                    scope: info.scope,
                    keyword: keyword(texts.get(number as usize - 1).unwrap_or(&""), info.kind),
                    text_end: number,
                    has_block: false,
                }),
            }
            statement_of[number as usize - 1] = statements.len().checked_sub(1);
        }
        for i in 1..statements.len() {
            statements[i - 1].has_block = statements[i].depth > statements[i - 1].depth;
        }
        Self {
            statements,
            statement_of,
        }
    }

    /// Lines that may come first in the scope headed by `scope` (0: module).
    pub fn first(&self, scope: u32) -> BTreeSet<u32> {
        let mut out = BTreeSet::new();
        let first = self.statements.iter().position(|s| s.scope == scope);
        self.enter(first, &mut out);
        out.remove(&END);
        if out.is_empty() && scope > 0 {
            // The whole function stands on its `def` line.
            out.insert(scope);
        }
        out
    }

    /// Lines that may come next in the same activation after `line`, no
    /// exception being on its way. `None` where any line of the scope may.
    pub fn successors(&self, line: u32) -> Option<BTreeSet<u32>> {
        let mut out = self.after(line)?;
        out.remove(&END);
        Some(out)
    }

    /// Whether the activation may return when `line` has run.
    pub fn may_end(&self, line: u32) -> bool {
        self.after(line).is_none_or(|lines| lines.contains(&END))
    }

    /// Lines that are likely next after `line`, likelier kinds of steps first: on
    /// to lines below, back to lines above, and to where an exception would be
    /// handled. Unlike [`Flow::successors`] it always has a guess and promises
    /// nothing.
    pub fn likely(&self, line: u32) -> Vec<u32> {
        let index = (line as usize).checked_sub(1);
        let Some(index) = index.and_then(|index| *self.statement_of.get(index)?) else {
            return Vec::new();
        };
        let mut reached = self.after(line).unwrap_or_else(|| self.guess(index));
        reached.remove(&END);
        let (back, mut next): (Vec<u32>, Vec<u32>) =
            reached.into_iter().partition(|&next| next <= line);
        next.extend(back);
        let handler = self.handler(index).filter(|line| !next.contains(line));
        next.extend(handler);
        next
    }

    /// Where control may go from statements of which nothing is sure.
    fn guess(&self, index: usize) -> BTreeSet<u32> {
        let mut out = BTreeSet::new();
        let statement = self.statements[index];
        match statement.keyword {
            Keyword::Raise | Keyword::Return | Keyword::Break | Keyword::Continue => {}
            Keyword::Except | Keyword::Match => {
                self.body(index, &mut out);
                let clause = self.sibling(index);
                let is_next = |&i: &usize| self.statements[i].keyword == statement.keyword;
                match clause.filter(is_next) {
                    Some(clause) => self.enter(Some(clause), &mut out),
                    None if statement.keyword == Keyword::Match => self.exits(index, &mut out),
                    None => {}
                }
            }
            _ => self.exits(index, &mut out),
        }
        out
    }

    /// Where an exception that the statement raises would be handled, or a jump
    /// out of it go first: an `except`, or the first line of a `finally`.
    fn handler(&self, index: usize) -> Option<u32> {
        let is_except = |&i: &usize| self.statements[i].keyword == Keyword::Except;
        let itself = Some(index).filter(is_except);
        let clause = itself
            .into_iter()
            .chain(self.ancestors(index))
            .find_map(|header| {
                let wanted: &[Keyword] = match self.statements[header].keyword {
                    Keyword::Try => &[Keyword::Except, Keyword::Finally],
                    Keyword::Except | Keyword::Else => &[Keyword::Finally],
                    _ => return None,
                };
                std::iter::successors(self.sibling(header), |&i| self.sibling(i))
                    .take_while(|&i| self.statements[i].keyword.is_clause())
                    .find(|&i| wanted.contains(&self.statements[i].keyword))
            })?;
        let first = match self.statements[clause].keyword {
            Keyword::Finally => clause + 1,
            _ => clause,
        };
        self.statements.get(first).map(|statement| statement.line)
    }

    /// All lines of the statement that `line` belongs to.
    pub fn statement(&self, line: u32) -> Option<RangeInclusive<u32>> {
        let index = (*self.statement_of.get((line as usize).checked_sub(1)?)?)?;
        let statement = self.statements[index];
        Some(statement.line..=statement.text_end)
    }

    /// [`Flow::successors`], with [`END`] where the scope may end.
    fn after(&self, line: u32) -> Option<BTreeSet<u32>> {
        let index = (line as usize).checked_sub(1)?;
        let index = (*self.statement_of.get(index)?)?;
        let statement = self.statements[index];
        // A `finally` goes on with whatever was under way when it began.
        if self
            .ancestors(index)
            .any(|i| self.statements[i].keyword == Keyword::Finally)
        {
            return None;
        }
        let mut out = BTreeSet::new();
        match statement.keyword {
            Keyword::Match | Keyword::Raise | Keyword::Except | Keyword::Finally => return None,
            Keyword::Return | Keyword::Break if self.in_try(index) => return None,
            Keyword::Continue if self.in_try(index) => return None,
            Keyword::Return => {
                out.insert(END);
            }
            Keyword::Break => match self.enclosing_loop(index) {
                Some(looping) => self.leave_without_else(looping, &mut out),
                None => return None,
            },
            Keyword::Continue => match self.enclosing_loop(index) {
                Some(looping) => self.loop_back(looping, &mut out),
                None => return None,
            },
            Keyword::If | Keyword::Elif => {
                self.body(index, &mut out);
                self.else_branch(index, &mut out);
            }
            Keyword::For | Keyword::While | Keyword::Forever => {
                if !statement.has_block {
                    out.insert(statement.line);
                }
                self.body(index, &mut out);
                self.exits(index, &mut out);
            }
            Keyword::Try | Keyword::Else => self.body(index, &mut out),
            Keyword::With => {
                self.body(index, &mut out);
                self.exits(index, &mut out);
            }
            Keyword::Silent | Keyword::Decorator | Keyword::Plain => self.exits(index, &mut out),
        }
        self.decorators(index, &mut out);
        // A statement over several lines visits them in the order of its
        // expressions, coming back to its first line.
        if statement.text_end > statement.line {
            out.extend(statement.line..=statement.text_end);
        }
        Some(out)
    }

    /// Whether an exception that is on its way may still be so when `line`
    /// is reached: at the test of an `except`, inside a `finally`, at the
    /// exit of a `with`. Any other line means that it was handled.
    pub fn may_be_unwinding(&self, line: u32) -> bool {
        let index = (line as usize).checked_sub(1);
        let found = index.and_then(|index| *self.statement_of.get(index)?);
        found.is_none_or(|index| {
            let passes = |i: usize| self.statements[i].keyword == Keyword::Finally;
            matches!(
                self.statements[index].keyword,
                Keyword::Except | Keyword::Finally | Keyword::With
            ) || self.ancestors(index).any(passes)
        })
    }

    /// A decorated definition runs its decorators, then itself, then calls
    /// the decorators, each from its own line.
    fn decorators(&self, index: usize, out: &mut BTreeSet<u32>) {
        let is_decorator = |i: usize| self.statements[i].keyword == Keyword::Decorator;
        let first = (0..index)
            .rev()
            .take_while(|&i| is_decorator(i))
            .last()
            .unwrap_or(index);
        let Some(definition) = (index..self.statements.len()).find(|&i| !is_decorator(i)) else {
            return;
        };
        if first < definition {
            out.extend(self.statements[first].line..=self.statements[definition].text_end);
            self.exits(definition, out);
        }
    }

    /// Adds the line at which a statement begins to run. Statements without
    /// events are passed through.
    fn enter(&self, index: Option<usize>, out: &mut BTreeSet<u32>) {
        let Some(index) = index else { return };
        let statement = self.statements[index];
        if !out.insert(statement.line) {
            return;
        }
        // A statement over several lines may begin with an inner one.
        out.extend(statement.line..=statement.text_end);
        match statement.keyword {
            Keyword::Silent => self.exits(index, out),
            Keyword::Try | Keyword::Forever => self.body(index, out),
            _ => {}
        }
    }

    fn body(&self, index: usize, out: &mut BTreeSet<u32>) {
        if self.statements[index].has_block {
            self.enter(Some(index + 1), out);
        } else {
            // The block stands on the same line.
            self.exits(index, out);
        }
    }

    /// The next statement at the same depth under the same header.
    fn sibling(&self, index: usize) -> Option<usize> {
        let depth = self.statements[index].depth;
        let next =
            (index + 1..self.statements.len()).find(|&i| self.statements[i].depth <= depth)?;
        let same = self.statements[next].depth == depth
            && self.statements[next].scope == self.statements[index].scope;
        same.then_some(next)
    }

    /// The header whose block holds the statement, within its scope.
    fn parent(&self, index: usize) -> Option<usize> {
        let statement = self.statements[index];
        let header = (0..index)
            .rev()
            .find(|&i| self.statements[i].depth < statement.depth)?;
        (self.statements[header].scope == statement.scope).then_some(header)
    }

    /// Where a false `if` or `elif` goes.
    fn else_branch(&self, index: usize, out: &mut BTreeSet<u32>) {
        match self.sibling(index) {
            Some(next) if self.statements[next].keyword == Keyword::Elif => {
                self.enter(Some(next), out);
            }
            Some(next) if self.statements[next].keyword == Keyword::Else => self.body(next, out),
            _ => self.exits(index, out),
        }
    }

    /// Where control goes once the statement, with its block, is done.
    fn exits(&self, index: usize, out: &mut BTreeSet<u32>) {
        let mut next = self.sibling(index);
        let takes_else = matches!(
            self.statements[index].keyword,
            Keyword::For | Keyword::While | Keyword::Forever | Keyword::Try | Keyword::Except
        );
        while let Some(clause) = next {
            match self.statements[clause].keyword {
                Keyword::Else if takes_else => self.body(clause, out),
                Keyword::Finally => self.body(clause, out),
                Keyword::Elif | Keyword::Else | Keyword::Except => {}
                _ => break,
            }
            next = self.sibling(clause);
        }
        match (next, self.parent(index)) {
            (Some(next), _) => self.enter(Some(next), out),
            (None, Some(parent)) => self.end_of_block(parent, out),
            (None, None) => {
                out.insert(END);
            }
        }
    }

    fn end_of_block(&self, header: usize, out: &mut BTreeSet<u32>) {
        match self.statements[header].keyword {
            Keyword::For | Keyword::While | Keyword::Forever => self.loop_back(header, out),
            Keyword::With => {
                // Leaving the context is an event of the `with` line.
                if out.insert(self.statements[header].line) {
                    self.exits(header, out);
                }
            }
            Keyword::Plain => {
                out.insert(END);
            }
            _ => self.exits(header, out),
        }
    }

    fn loop_back(&self, header: usize, out: &mut BTreeSet<u32>) {
        let statement = self.statements[header];
        out.extend(statement.line..=statement.text_end);
        if statement.keyword == Keyword::Forever {
            self.body(header, out);
        }
    }

    /// Where `break` goes from the loop at `index`.
    fn leave_without_else(&self, index: usize, out: &mut BTreeSet<u32>) {
        match self.sibling(index) {
            Some(next) if self.statements[next].keyword == Keyword::Else => self.exits(next, out),
            _ => self.exits(index, out),
        }
    }

    fn ancestors(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(self.parent(index), |&i| self.parent(i))
    }

    fn enclosing_loop(&self, index: usize) -> Option<usize> {
        self.ancestors(index).find(|&i| {
            matches!(
                self.statements[i].keyword,
                Keyword::For | Keyword::While | Keyword::Forever
            )
        })
    }

    /// Whether a jump out of the statement may run a `finally` or leave a
    /// `with` first.
    fn in_try(&self, index: usize) -> bool {
        self.ancestors(index).any(|i| {
            matches!(
                self.statements[i].keyword,
                Keyword::Try | Keyword::Except | Keyword::Finally | Keyword::With | Keyword::Match
            )
        })
    }
}

fn keyword(text: &str, kind: LineKind) -> Keyword {
    let text = text.trim_start();
    let text = text.strip_prefix("async ").map_or(text, str::trim_start);
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    let rest = text[end..].trim_start();
    match &text[..end] {
        _ if kind == LineKind::Decorator => Keyword::Decorator,
        "if" => Keyword::If,
        "elif" => Keyword::Elif,
        "else" => Keyword::Else,
        "for" => Keyword::For,
        "while" if is_constant(rest) => Keyword::Forever,
        "while" => Keyword::While,
        "try" => Keyword::Try,
        "except" => Keyword::Except,
        "finally" => Keyword::Finally,
        "with" => Keyword::With,
        "return" => Keyword::Return,
        "raise" => Keyword::Raise,
        "break" => Keyword::Break,
        "continue" => Keyword::Continue,
        "match" | "case" if text.ends_with(':') => Keyword::Match,
        "global" | "nonlocal" | "pass" => Keyword::Silent,
        "" if text.starts_with(['\'', '"', '.']) => Keyword::Silent,
        // A one-line literal has no effect and no event.
        word if rest.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) => Keyword::Silent,
        _ => Keyword::Plain,
    }
}

/// Whether a `while` test is a constant that the compiler drops.
fn is_constant(rest: &str) -> bool {
    let test = rest.split([':', '#']).next().unwrap_or_default().trim();
    test == "True" || (!test.is_empty() && test.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(source: &str) -> Flow {
        Flow::new(source, &Outline::new(source))
    }

    #[track_caller]
    fn check(source: &str, expected: &[(u32, &[u32])]) {
        let flow = flow(source);
        for &(line, next) in expected {
            let found: Vec<u32> = flow.successors(line).unwrap().into_iter().collect();
            assert_eq!(found, next, "after line {line}");
        }
    }

    #[test]
    fn branches_and_loops() {
        let source = "\
def f(xs):
    n = 0
    for x in xs:
        if x > 1:
            n += 1
        elif x:
            continue
        else:
            break
    else:
        n = 7
    while n:
        n -= 1
    return n
f([1])
";
        check(
            source,
            &[
                (1, &[15]),
                (2, &[3]),
                (3, &[4, 11, 12]),
                (4, &[5, 6]),
                (5, &[3]),
                (6, &[7, 9]),
                (7, &[3]),
                (9, &[12]),
                (11, &[12]),
                (12, &[13, 14]),
                (13, &[12]),
                (14, &[]),
                (15, &[]),
            ],
        );
        assert_eq!(flow(source).first(1).into_iter().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn endless_loops_silent_lines_and_long_statements() {
        let source = "\
def f(x):
    'what it does'
    global y
    while True:
        y = [
            x,
        ]
        if y: return y
";
        let flow = flow(source);
        assert_eq!(
            flow.first(1).into_iter().collect::<Vec<_>>(),
            [3, 4, 5, 6, 7]
        );
        check(
            source,
            &[(5, &[5, 6, 7, 8]), (7, &[5, 6, 7, 8]), (8, &[4, 5, 6, 7])],
        );
    }

    #[test]
    fn likely_lines_have_an_order() {
        let source = "\
def f(xs):
    for x in xs:
        try:
            if x:
                raise ValueError(x)
            x += 1
        except ValueError as e:
            return e
        except TypeError:
            x = 0
        finally:
            xs.clear()
    match x:
        case 1:
            return x
        case _:
            x = 2
    return xs
";
        let flow = flow(source);
        for (line, expected) in [
            (2, &[3, 4, 13][..]),
            (3, &[4]),
            (4, &[5, 6, 7]),
            (5, &[7]),
            (6, &[12, 2, 7]),
            (7, &[8, 9, 12]),
            (8, &[12]),
            (9, &[10, 12]),
            (12, &[2]),
            (13, &[14, 18]),
            (14, &[15, 16]),
            (16, &[17, 18]),
            (18, &[]),
        ] {
            assert_eq!(flow.likely(line), expected, "after line {line}");
        }
    }

    #[test]
    fn exceptions_allow_anything() {
        let source = "\
try:
    x = 1
except ValueError:
    x = 2
finally:
    y = 3
z = 4
";
        let flow = flow(source);
        assert_eq!(flow.successors(3), None);
        check(source, &[(1, &[2]), (2, &[6, 7]), (4, &[6, 7]), (7, &[])]);
    }

    #[test]
    fn a_scope_ends_where_nothing_follows() {
        let source = "\
def f(x):
    if x:
        return 1
    for y in x:
        if y:
            break
        x = y
    while True:
        x = 2
def g():
    with x:
        y()
z = 1
";
        let flow = flow(source);
        let ends: Vec<u32> = (1..=13).filter(|&n| flow.may_end(n)).collect();
        // The class of `while True` is never left, a `with` may be.
        assert_eq!(ends, [3, 8, 11, 12, 13]);
        assert_eq!(flow.statement(7), Some(7..=7));
        assert_eq!(flow.statement(99), None);
    }

    #[test]
    fn a_line_outside_of_handlers_means_that_all_is_well() {
        let source = "\
with a:
    try:
        b()
    except ValueError:
        c()
    finally:
        if d:
            e()
f()
";
        let flow = flow(source);
        let unwinding: Vec<u32> = (1..=9).filter(|&n| flow.may_be_unwinding(n)).collect();
        assert_eq!(unwinding, [1, 4, 6, 7, 8]);
    }

    #[test]
    fn any_text_has_a_flow() {
        for source in [
            "",
            "else:\n",
            "  break\n",
            "if x:\nelif\n",
            "@\n@\n",
            "while 1:",
            "try:\n x\n",
        ] {
            let flow = flow(source);
            for line in 0..10 {
                flow.successors(line);
                flow.first(line);
            }
        }
    }
}
