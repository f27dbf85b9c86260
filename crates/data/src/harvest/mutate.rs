//! Arguments that are like others: one number, text or item of them is changed.
//!
//! Arguments that are known to work say more about a function than its types do; what is next to them works
//! too and often takes another path.

use crate::generate::rng::Rng;

use super::kind::{Dictionary, quoted};

/// A literal in an argument list.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// A number, a name, anything that is not looked into.
    Atom(String),
    /// A plain text without escapes.
    Text(String),
    /// Items between brackets; of a dictionary each is a key, `: ` and a value.
    Sequence(char, Vec<Node>),
    /// `before` a node: the keyword of an argument, or the key of a pair, with the sign behind it.
    After(String, Box<Node>),
}

/// Changes one place of an argument list; `None` where nothing can be changed or the text is not understood.
pub(crate) fn mutate(arguments: &str, dictionary: &Dictionary, rng: &mut Rng) -> Option<String> {
    let mut parser = Parser { rest: arguments };
    let mut items = parser.items(None)?;
    let places: usize = items.iter().map(Node::places).sum();
    if places == 0 {
        return None;
    }
    let mut place = rng.below(places);
    for item in &mut items {
        let count = item.places();
        if place < count {
            item.change(place, dictionary, rng);
            break;
        }
        place -= count;
    }
    let text = items.iter().map(Node::text).collect::<Vec<_>>().join(", ");
    (text != arguments).then_some(text)
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    /// Items up to a closing bracket, or up to the end.
    fn items(&mut self, close: Option<char>) -> Option<Vec<Node>> {
        let mut items = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            match (self.rest.chars().next(), close) {
                (None, None) => return Some(items),
                (None, Some(_)) => return None,
                (Some(c), Some(close)) if c == close => {
                    self.rest = &self.rest[c.len_utf8()..];
                    return Some(items);
                }
                (Some(','), _) => self.rest = &self.rest[1..],
                _ => items.push(self.node()?),
            }
        }
    }

    fn node(&mut self) -> Option<Node> {
        let first = self.rest.chars().next()?;
        let node = match first {
            '[' | '(' | '{' => {
                self.rest = &self.rest[1..];
                let close = match first {
                    '[' => ']',
                    '(' => ')',
                    _ => '}',
                };
                Node::Sequence(first, self.items(Some(close))?)
            }
            '\'' | '"' => self.string(first)?,
            _ => self.atom()?,
        };
        for sign in ["=", ":"] {
            if let Some(rest) = self.rest.strip_prefix(sign) {
                self.rest = rest.trim_start();
                let sign = if sign == ":" { ": " } else { sign };
                return Some(Node::After(node.text() + sign, Box::new(self.node()?)));
            }
        }
        Some(node)
    }

    fn string(&mut self, quote: char) -> Option<Node> {
        let mut is_escaped = false;
        let mut has_escapes = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' => (is_escaped, has_escapes) = (true, true),
                c if c == quote => {
                    let (text, rest) = self.rest.split_at(at + 1);
                    self.rest = rest;
                    let node = if has_escapes {
                        Node::Atom(text.to_owned())
                    } else {
                        Node::Text(text[1..at].to_owned())
                    };
                    return Some(node);
                }
                _ => {}
            }
        }
        None
    }

    fn atom(&mut self) -> Option<Node> {
        let end = self
            .rest
            .find([',', ')', ']', '}', ':', '='])
            .unwrap_or(self.rest.len());
        let text = &self.rest[..end];
        // A call such as `set()`, or bytes: left as they are, up to their ends.
        if let Some(open) = text.find(['(', '\'', '"', '[', '{']) {
            let whole = self.rest;
            self.rest = &self.rest[open..];
            self.node()?;
            let length = whole.len() - self.rest.len();
            return Some(Node::Atom(whole[..length].to_owned()));
        }
        self.rest = &self.rest[end..];
        (end > 0).then(|| Node::Atom(text.trim_end().to_owned()))
    }
}

impl Node {
    fn text(&self) -> String {
        match self {
            Self::Atom(text) => text.clone(),
            Self::Text(text) => quoted(text),
            Self::After(before, node) => before.clone() + &node.text(),
            Self::Sequence(open, items) => {
                let texts: Vec<_> = items.iter().map(Self::text).collect();
                let joined = texts.join(", ");
                match (open, &texts[..]) {
                    ('(', [one]) => format!("({one},)"),
                    ('(', _) => format!("({joined})"),
                    ('[', _) => format!("[{joined}]"),
                    _ => format!("{{{joined}}}"),
                }
            }
        }
    }

    /// How many things in it can be changed.
    fn places(&self) -> usize {
        match self {
            Self::Atom(text) => {
                usize::from(text.parse::<i64>().is_ok() || text == "True" || text == "False")
            }
            Self::Text(_) => 1,
            Self::After(_, node) => node.places(),
            Self::Sequence(_, items) => 1 + items.iter().map(Self::places).sum::<usize>(),
        }
    }

    fn change(&mut self, mut place: usize, dictionary: &Dictionary, rng: &mut Rng) {
        match self {
            Self::Atom(text) => *text = changed_atom(text, dictionary, rng),
            Self::Text(text) => *text = changed_text(text, dictionary, rng),
            Self::After(_, node) => node.change(place, dictionary, rng),
            Self::Sequence(_, items) if place == 0 => change_items(items, rng),
            Self::Sequence(_, items) => {
                place -= 1;
                for item in items {
                    let count = item.places();
                    if place < count {
                        return item.change(place, dictionary, rng);
                    }
                    place -= count;
                }
            }
        }
    }
}

fn changed_atom(text: &str, dictionary: &Dictionary, rng: &mut Rng) -> String {
    let Ok(number) = text.parse::<i64>() else {
        return (if text == "True" { "False" } else { "True" }).to_owned();
    };
    let number = match rng.below(7) {
        0 => number.saturating_add(1),
        1 => number.saturating_sub(1),
        2 => number.saturating_neg(),
        3 => number / 2,
        4 => number.saturating_mul(2),
        5 if !dictionary.numbers.is_empty() => *rng.pick(&dictionary.numbers),
        _ => rng.range(0, 20),
    };
    number.to_string()
}

fn changed_text(text: &str, dictionary: &Dictionary, rng: &mut Rng) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let at = rng.below(chars.len() + 1);
    match rng.below(9) {
        0 if at < chars.len() => {
            chars.remove(at);
        }
        1 if at < chars.len() => chars.insert(at, chars[at]),
        2 if at < chars.len() => chars[at] = *rng.pick(&['a', 'Z', '0', ' ', '-', '.']),
        3 => chars.reverse(),
        4 => chars.truncate(at),
        5 => return text.to_uppercase(),
        6 if !dictionary.texts.is_empty() => {
            let inserted: Vec<_> = rng.pick(&dictionary.texts).chars().collect();
            chars.splice(at..at, inserted);
        }
        7 if chars.len() > 1 => {
            let other = rng.below(chars.len());
            let at = at.min(chars.len() - 1);
            chars.swap(at, other);
        }
        _ => chars.insert(at, *rng.pick(&['b', 'x', '1', '_', ',', ' '])),
    }
    chars.into_iter().collect()
}

fn change_items(items: &mut Vec<Node>, rng: &mut Rng) {
    if items.is_empty() {
        return;
    }
    let at = rng.below(items.len());
    match rng.below(5) {
        0 => {
            items.remove(at);
        }
        // A pair's key would only be there twice.
        1 | 2 if !matches!(items[at], Node::After(..)) => items.insert(at, items[at].clone()),
        3 => items.reverse(),
        _ => {
            let other = rng.below(items.len());
            items.swap(at, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::proptest;

    fn again(arguments: &str) -> Option<String> {
        let items = Parser { rest: arguments }.items(None)?;
        Some(items.iter().map(Node::text).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn argument_lists_are_read_as_they_are() {
        let cases = [
            "",
            "1, 'a', None",
            "[1, [2, 3]], (4,), ()",
            "{'a': 1, 'b': [2]}, {1, 2}, set()",
            "x=1, sep=', ', key=len",
            "b'ab', \"it's\", 'a\\n', -1.5, frozenset({1})",
            "{}, [{}], 1e3",
        ];
        for case in cases {
            assert_eq!(again(case).as_deref(), Some(case));
        }
        assert_eq!(again("[1"), None);
        assert_eq!(again("'a"), None);
    }

    #[test]
    fn something_else_comes_out_mostly() {
        let mut rng = Rng::new(1, 2, 3);
        let dictionary = Dictionary {
            texts: vec!["key".into()],
            numbers: vec![7],
        };
        let arguments = "[1, 2, 3], 'word', x={'a': True}";
        let changed: std::collections::HashSet<_> = (0..300)
            .filter_map(|_| mutate(arguments, &dictionary, &mut rng))
            .collect();
        assert!(changed.len() > 50, "{}", changed.len());
        for text in &changed {
            assert_eq!(again(text).as_ref(), Some(text));
        }
        for part in ["x={'a': False}", "[1, 2, 2, 3]", "[3, 2, 1]", "'WORD'"] {
            assert!(changed.iter().any(|text| text.contains(part)), "{part}");
        }
        assert_eq!(mutate("None, len", &dictionary, &mut rng), None);
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "\\PC{0,40}", seed: u64) {
            mutate(&text, &Dictionary::default(), &mut Rng::new(seed, 0, 0));
        }
    }
}
