//! The block structure of a Python source, from its indentation alone.
//!
//! The `live` dialect needs to know which lines carry code, how deeply they
//! are nested, which of them head a `for` loop and which scope they belong
//! to. Brackets, strings and backslashes that continue a line are followed;
//! nothing else of the grammar is. Any text gives an outline: a file that is
//! not Python gives a useless one, never a panic.

use std::ops::Range;

/// What a physical line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// Empty, a comment alone, or the docstring of a function: no code of its own.
    Blank,
    /// Continues the statement of an earlier line.
    Continuation,
    /// `for` or `async for`: heads a loop with a hidden position.
    For,
    /// `def` or `async def`.
    Def,
    /// `class`.
    Class,
    /// `@decorator`, which belongs to the definition that follows.
    Decorator,
    /// Any other statement.
    Statement,
}

/// One physical line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineInfo {
    /// What the line is.
    pub kind: LineKind,
    /// Nesting depth, 0 at module level; continuations have that of their
    /// first line.
    pub depth: u16,
    /// Line of the innermost `def` (or `class`) that encloses this line, 0
    /// for the module. A `def` line belongs to the scope *around* it.
    pub scope: u32,
}

/// The outline of a source text. Lines are numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    lines: Vec<LineInfo>,
}

impl Outline {
    /// Reads the block structure of `source`.
    pub fn new(source: &str) -> Self {
        let mut scanner = Scanner::default();
        let mut indents: Vec<usize> = Vec::new();
        let mut scopes: Vec<(u16, u32)> = Vec::new();
        let mut lines: Vec<LineInfo> = Vec::new();
        for (index, text) in source.lines().enumerate() {
            let number = index as u32 + 1;
            let body = text.trim_start();
            let continues = scanner.continues();
            scanner.line(text);
            let last = lines.last().copied();
            if continues {
                let (depth, scope) = last.map_or((0, 0), |l: LineInfo| (l.depth, l.scope));
                lines.push(LineInfo {
                    kind: LineKind::Continuation,
                    depth,
                    scope,
                });
                continue;
            }
            if body.is_empty() || body.starts_with('#') {
                let depth = indents.len() as u16;
                lines.push(LineInfo {
                    kind: LineKind::Blank,
                    depth,
                    scope: 0,
                });
                continue;
            }
            let indent = indent_width(text);
            while indents.last().is_some_and(|&i| i >= indent) {
                indents.pop();
            }
            let depth = indents.len() as u16;
            indents.push(indent);
            while scopes.last().is_some_and(|&(d, _)| d >= depth) {
                scopes.pop();
            }
            let scope = scopes.last().map_or(0, |&(_, line)| line);
            let kind = classify(body);
            if matches!(kind, LineKind::Def | LineKind::Class) {
                scopes.push((depth, number));
            }
            lines.push(LineInfo { kind, depth, scope });
        }
        let mut outline = Self { lines };
        let texts: Vec<&str> = source.lines().collect();
        for (_, definition) in outline.definitions().collect::<Vec<_>>() {
            outline.blank_docstring(definition, &texts);
        }
        outline
    }

    /// Makes the docstring of the function at `definition` blank, as no line event is at one. A function that is
    /// nothing else returns there, and keeps it.
    fn blank_docstring(&mut self, definition: u32, texts: &[&str]) {
        let Some(range) = self.first_of_several(definition) else {
            return;
        };
        if is_plain_string(&texts[range.clone()].join("\n")) {
            for line in &mut self.lines[range] {
                line.kind = LineKind::Blank;
                line.scope = 0;
            }
        }
    }

    /// The lines, counted from 0, of the first statement in the scope at `definition`, if others follow.
    fn first_of_several(&self, definition: u32) -> Option<Range<usize>> {
        let is_continuation = |n: &u32| {
            self.line(*n)
                .is_some_and(|l| l.kind == LineKind::Continuation)
        };
        let mut body = self.scope_lines(definition);
        let first = body.next()?;
        let next = body.find(|n| !is_continuation(n))?;
        let end = (first + 1..next).take_while(is_continuation).last();
        Some(first as usize - 1..end.unwrap_or(first) as usize)
    }

    /// Number of lines.
    pub fn len(&self) -> u32 {
        self.lines.len() as u32
    }

    /// Whether there are no lines.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The line of that number, if the file has it.
    pub fn line(&self, number: u32) -> Option<&LineInfo> {
        (number as usize)
            .checked_sub(1)
            .and_then(|i| self.lines.get(i))
    }

    /// Whether the line heads a `for` loop.
    pub fn is_for(&self, number: u32) -> bool {
        self.line(number).is_some_and(|l| l.kind == LineKind::For)
    }

    /// Last line of the block headed by `header` (its own line if it has no
    /// indented block).
    pub fn block_end(&self, header: u32) -> u32 {
        let Some(depth) = self.line(header).map(|l| l.depth) else {
            return header;
        };
        let mut end = header;
        for number in header + 1..=self.len() {
            match self.line(number) {
                Some(l) if l.kind == LineKind::Blank => {}
                Some(l) if l.kind == LineKind::Continuation || l.depth > depth => end = number,
                _ => break,
            }
        }
        end
    }

    /// The `def` or `class` line of a code object whose first line (maybe a
    /// decorator) is `first_line`.
    pub fn definition(&self, first_line: u32) -> u32 {
        let is_decorator = |n: u32| self.line(n).is_some_and(|l| l.kind == LineKind::Decorator);
        let mut number = first_line;
        while is_decorator(number)
            || (number > first_line
                && self
                    .line(number)
                    .is_some_and(|l| l.kind == LineKind::Continuation))
        {
            number += 1;
        }
        number
    }

    /// Every `def`, in order: the line of its call events, which is that of
    /// the first decorator if there are any, and its own.
    pub fn definitions(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut decorated_from = None;
        (1..=self.len()).filter_map(move |number| {
            match self.line(number).map(|l| l.kind) {
                Some(LineKind::Decorator) => {
                    decorated_from.get_or_insert(number);
                }
                Some(LineKind::Def) => {
                    return Some((decorated_from.take().unwrap_or(number), number));
                }
                Some(LineKind::Continuation | LineKind::Blank) => {}
                _ => decorated_from = None,
            }
            None
        })
    }

    /// Lines that can run inside the scope headed by `scope` (0: module):
    /// statements and their continuations, without those of inner scopes.
    pub fn scope_lines(&self, scope: u32) -> impl Iterator<Item = u32> + '_ {
        self.lines.iter().enumerate().filter_map(move |(i, l)| {
            (l.scope == scope && l.kind != LineKind::Blank).then_some(i as u32 + 1)
        })
    }
}

/// Whether a statement is string literals alone, none of them with parts to be computed.
fn is_plain_string(statement: &str) -> bool {
    let mut scanner = Scanner::default();
    let chars: Vec<char> = statement.chars().collect();
    let mut i = 0;
    let mut any = false;
    while i < chars.len() {
        let c = chars[i];
        let is_prefix =
            matches!(c, 'r' | 'R' | 'u' | 'U') && matches!(chars.get(i + 1), Some('\'' | '"'));
        match scanner.string {
            Some(_) => i += scanner.inside_string(&chars, i),
            None if c == '#' => i += chars[i..].iter().take_while(|c| **c != '\n').count(),
            None if c.is_whitespace() || is_prefix => i += 1,
            None if c == '\\' && chars.get(i + 1) == Some(&'\n') => i += 2,
            None if c == '\'' || c == '"' => {
                any = true;
                i += scanner.outside_string(&chars, i);
            }
            None => return false,
        }
    }
    any && scanner.string.is_none()
}

/// The name behind `def` or `class` in a line that begins with either.
pub fn defined_name(text: &str) -> &str {
    let text = text.trim_start();
    let text = text.strip_prefix("async").map_or(text, str::trim_start);
    let after = text
        .strip_prefix("def")
        .or_else(|| text.strip_prefix("class"))
        .unwrap_or("");
    let after = after.trim_start();
    let end = after
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(after.len());
    &after[..end]
}

/// Width of the indentation, tabs going to the next multiple of 8 as in
/// CPython's tokenizer.
fn indent_width(text: &str) -> usize {
    let mut width = 0;
    for c in text.chars() {
        match c {
            ' ' => width += 1,
            '\t' => width = (width / 8 + 1) * 8,
            _ => break,
        }
    }
    width
}

fn classify(body: &str) -> LineKind {
    let starts = |word: &str| {
        body.strip_prefix(word)
            .is_some_and(|rest| rest.starts_with([' ', '\t', '(']))
    };
    let body_after_async = body.strip_prefix("async ").map(str::trim_start);
    let async_starts = |word: &str| {
        body_after_async.is_some_and(|b| b.strip_prefix(word).is_some_and(|r| r.starts_with(' ')))
    };
    if body.starts_with('@') {
        LineKind::Decorator
    } else if starts("for") || async_starts("for") {
        LineKind::For
    } else if starts("def") || async_starts("def") {
        LineKind::Def
    } else if starts("class") {
        LineKind::Class
    } else {
        LineKind::Statement
    }
}

/// Follows what lets a statement run over the end of a line.
#[derive(Default)]
struct Scanner {
    open_brackets: usize,
    /// The string that is open: its quote, and whether three of them close it.
    string: Option<(char, bool)>,
    backslash: bool,
}

impl Scanner {
    fn continues(&self) -> bool {
        self.open_brackets > 0 || self.string.is_some() || self.backslash
    }

    fn line(&mut self, text: &str) {
        self.backslash = false;
        let chars: Vec<char> = text.chars().collect();
        let mut i = 0;
        while i < chars.len() {
            i += match self.string {
                Some(_) => self.inside_string(&chars, i),
                None if chars[i] == '#' => return,
                None => self.outside_string(&chars, i),
            };
        }
        // A short string ends with its line unless a backslash carries it on.
        if !self.backslash && self.string.is_some_and(|(_, triple)| !triple) {
            self.string = None;
        }
    }

    /// Takes what is at `i` inside a string; gives how many characters.
    fn inside_string(&mut self, chars: &[char], i: usize) -> usize {
        if chars[i] == '\\' {
            self.backslash = i + 1 == chars.len();
            return 2;
        }
        match self.string {
            Some((quote, false)) if chars[i] == quote => self.string = None,
            Some((quote, true)) if chars[i] == quote && is_triple(chars, i) => {
                self.string = None;
                return 3;
            }
            _ => {}
        }
        1
    }

    /// Takes what is at `i` outside strings; gives how many characters.
    fn outside_string(&mut self, chars: &[char], i: usize) -> usize {
        match chars[i] {
            quote @ ('\'' | '"') => {
                let triple = is_triple(chars, i);
                self.string = Some((quote, triple));
                return if triple { 3 } else { 1 };
            }
            '(' | '[' | '{' => self.open_brackets += 1,
            ')' | ']' | '}' => self.open_brackets = self.open_brackets.saturating_sub(1),
            '\\' => self.backslash = i + 1 == chars.len(),
            _ => {}
        }
        1
    }
}

fn is_triple(chars: &[char], at: usize) -> bool {
    chars.get(at + 1) == Some(&chars[at]) && chars.get(at + 2) == Some(&chars[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
x = [1,
     2]  # two lines

@cache
def f(n):
    for i in range(n):
        while n:
            n -= 1
    return '''a
  b'''

class A:
    def g(self):
        pass
y = f(1)
";

    #[test]
    fn follows_blocks_and_continuations() {
        let o = Outline::new(SOURCE);
        let kinds: Vec<_> = (1..=o.len()).map(|n| o.line(n).unwrap().kind).collect();
        use LineKind::*;
        assert_eq!(
            kinds,
            [
                Statement,
                Continuation,
                Blank,
                Decorator,
                Def,
                For,
                Statement,
                Statement,
                Statement,
                Continuation,
                Blank,
                Class,
                Def,
                Statement,
                Statement
            ]
        );
        assert_eq!(o.scope_lines(0).collect::<Vec<_>>(), [1, 2, 4, 5, 12, 15]);
        assert_eq!(o.scope_lines(5).collect::<Vec<_>>(), [6, 7, 8, 9, 10]);
        assert_eq!(o.scope_lines(13).collect::<Vec<_>>(), [14]);
        assert_eq!(o.block_end(6), 8);
        assert_eq!(o.block_end(5), 10);
        assert_eq!(o.definition(4), 5);
        assert!(o.is_for(6) && !o.is_for(7));
        assert_eq!(o.line(8).unwrap().depth, 3);
    }

    #[test]
    fn docstrings_are_blank_where_more_follows() {
        let blank = |source: &str| -> Vec<u32> {
            let o = Outline::new(source);
            let is_blank = |n: &u32| o.line(*n).is_some_and(|l| l.kind == LineKind::Blank);
            (1..=o.len()).filter(is_blank).collect()
        };
        let long = "def f(a,\n      b):\n    \"\"\" Adds.\n    >>> f(1, 2)\n\n    \"\"\"  # so\n    return a\n";
        assert_eq!(blank(long), [3, 4, 5, 6]);
        assert_eq!(
            blank("def f():\n    r'x' \\\n    'y'\n    def g(): pass\n"),
            [2, 3]
        );
        // The only statement, one that is computed, a part of one, not the first, not of a function.
        assert_eq!(blank("def f():\n    'x'\nf()\n"), [0; 0]);
        assert_eq!(blank("def f():\n    f'x'\n    f()\n"), [0; 0]);
        assert_eq!(blank("def f():\n    'x'.upper()\n    f()\n"), [0; 0]);
        assert_eq!(blank("def f():\n    'x'; f()\n    f()\n"), [0; 0]);
        assert_eq!(blank("def f():\n    f()\n    'x'\n    f()\n"), [0; 0]);
        assert_eq!(blank("'x'\nif x:\n    'y'\n    x()\n"), [0; 0]);
    }

    #[test]
    fn a_backslash_carries_a_short_string_on() {
        let source = "def f():\n    s = 'a\\\nb(' + '''c\\\nd'''\n    return s\nx = '(\ny\n";
        let o = Outline::new(source);
        let kinds: Vec<_> = (1..=o.len()).map(|n| o.line(n).unwrap().kind).collect();
        use LineKind::*;
        assert_eq!(
            kinds,
            [
                Def,
                Statement,
                Continuation,
                Continuation,
                Statement,
                Statement,
                Statement
            ]
        );
        assert_eq!(o.scope_lines(1).collect::<Vec<_>>(), [2, 3, 4, 5]);
    }

    #[test]
    fn any_text_has_an_outline() {
        for text in [
            "",
            "\n",
            "'''",
            "(((",
            "\\",
            "\tfor x in",
            "é'\\",
            "    deep\n back",
        ] {
            let o = Outline::new(text);
            assert_eq!(o.len() as usize, text.lines().count());
            for n in 0..=o.len() + 1 {
                o.block_end(n);
                o.definition(n);
            }
        }
    }
}
