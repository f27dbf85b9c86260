//! The table of operations in `idioms/operations.txt`, whose notes define its language.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::generate::template::{Template, parse};

const FILE: &str = include_str!("../../../idioms/operations.txt");

macro_rules! types {
    ($($ty:ident $name:literal $role:literal $literal:literal),* $(,)?) => {
        /// Types of variables.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) enum Ty { $($ty),* }

        impl Ty {
            /// The type of a name in the table.
            pub(super) fn parse(name: &str) -> Option<Self> {
                Some(match name { $($name => Self::$ty,)* _ => return None })
            }

            /// The role of a variable of the type; see [`crate::generate::names::pool`].
            pub(super) fn role(self) -> &'static str {
                match self { $(Self::$ty => $role),* }
            }

            /// How a literal of the type is drawn, in the language of idioms.
            pub(super) fn literal(self) -> &'static Template {
                static LITERALS: OnceLock<Vec<Template>> = OnceLock::new();
                let all = LITERALS.get_or_init(|| {
                    [$($literal),*].map(|text| parse(text).expect("literals of types are tested")).into()
                });
                &all[self as usize]
            }
        }
    };
}

types! {
    Int "int" "x" "«@int(1,12)|@int(2,9)|@int»",
    Float "float" "fl" "@float",
    Bool "bool" "flag" "@bool",
    Text "text" "s" "«@word(3,7)|@word(3,8)|@mixed(3,7)|@str(3,6)|@sentence(2,3)»",
    Digits "digits" "s" "@digits(2,4)",
    Bytes "bytes" "by" "b@word(2,5)",
    Ints "ints" "xs" "«@ints(2,5)|@smalls(3,5)|@ints(3,4)|@runs(3,5)»",
    Floats "floats" "fs" "[@float, @float«, @float|»]",
    Words "words" "ws" "@words(2,4)",
    Dict "dict" "d" "«@dict(2,3)|@letters(2,3)»",
    Set "set" "st" "@set(2,4)",
    Tuple "tuple" "tp" "@tuple(2,4)",
    Pairs "pairs" "ps" "@pairs(2,3)",
    Points "points" "pt" "@points(2,3)",
    Table "table" "d" "{@int(0,3): @int(0,9), @int(4,7): @int(0,9)}",
    Deque "deque" "queue" "deque(@smalls(2,4))",
    Counter "counter" "d" "Counter(@word(3,7))",
    Any "any" "r" "«None|@int|@word(2,4)»",
}

/// A variable that an operation makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) ty: Ty,
    /// The length it surely has; `None` for that of the subject.
    pub(super) size: Option<usize>,
    /// Whether it takes the rest of what is unpacked.
    pub(super) starred: bool,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) weight: u32,
    /// The type and least length of its subject.
    pub(super) subject: Ty,
    pub(super) size: usize,
    /// The exception it may raise.
    pub(super) raises: Option<String>,
    pub(super) made: Vec<Made>,
    /// How the least length of the subject changes, for one that changes it.
    pub(super) change: Option<isize>,
    pub(super) template: Template,
    /// Whether the text may have an expression for its subject.
    pub(super) chains: bool,
}

/// The operations on a type, those on texts for digits as well.
pub(super) fn operations(ty: Ty) -> &'static [Operation] {
    static TABLE: OnceLock<HashMap<Ty, Vec<Operation>>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let all = read(FILE).expect("the table is part of the crate and tested");
        let mut by_type: HashMap<Ty, Vec<Operation>> = HashMap::new();
        for operation in all {
            if operation.subject == Ty::Text {
                by_type
                    .entry(Ty::Digits)
                    .or_default()
                    .push(operation.clone());
            }
            by_type
                .entry(operation.subject)
                .or_default()
                .push(operation);
        }
        by_type
    });
    table.get(&ty).map_or(&[], Vec::as_slice)
}

/// Reads a table; the error says which line is wrong and how.
fn read(file: &str) -> Result<Vec<Operation>, String> {
    let mut header: Option<(Ty, usize, Option<String>)> = None;
    let mut operations = Vec::new();
    for line in file.lines() {
        let named = |error: &str| format!("{line:?}: {error}");
        if let Some(words) = line.strip_prefix("== ") {
            header = Some(read_header(words).ok_or_else(|| named("no header"))?);
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            let header = header
                .as_ref()
                .ok_or_else(|| named("no header before it"))?;
            operations.push(read_line(line, header).map_err(|error| named(&error))?);
        }
    }
    Ok(operations)
}

fn read_header(words: &str) -> Option<(Ty, usize, Option<String>)> {
    let mut words = words.split_whitespace();
    let ty = Ty::parse(words.next()?)?;
    match words.next() {
        None => Some((ty, 0, None)),
        Some("!") => Some((ty, 0, Some(words.next()?.to_owned()))),
        Some(size) => Some((ty, size.parse().ok()?, None)),
    }
}

fn read_line(line: &str, header: &(Ty, usize, Option<String>)) -> Result<Operation, String> {
    let (weight, rest) = line.split_once(' ').ok_or("no type")?;
    let (result, text) = rest.split_once(' ').ok_or("no text")?;
    let (result, change) = match result.split_once('!') {
        None => (result, None),
        Some((result, "")) => (result, Some(0)),
        Some((result, change)) => {
            let change = change.parse().map_err(|_| "no change of length")?;
            (result, Some(change))
        }
    };
    let made = result.split(',').filter(|made| !made.is_empty());
    let made = made.map(|made| read_made(made).ok_or("an unknown type"));
    let (subject, size, raises) = header.clone();
    Ok(Operation {
        weight: weight.parse().map_err(|_| "no weight")?,
        subject,
        size,
        raises,
        made: made.collect::<Result<_, _>>()?,
        change,
        chains: change.is_none() && is_once(text),
        template: parse(text)?,
    })
}

fn read_made(made: &str) -> Option<Made> {
    let starred = made.starts_with('*');
    let (name, size) = match made.trim_start_matches('*').split_once(':') {
        None => (made.trim_start_matches('*'), Some(0)),
        Some((name, "=")) => (name, None),
        Some((name, size)) => (name, Some(size.parse().ok()?)),
    };
    Some(Made {
        ty: Ty::parse(name)?,
        size,
        starred,
    })
}

/// Whether the subject stands in the text once, where it is worked out once.
fn is_once(text: &str) -> bool {
    let alone =
        |at: usize| !text[at + '§'.len_utf8()..].starts_with(|c: char| c.is_ascii_lowercase());
    let own: Vec<_> = text
        .match_indices('§')
        .filter(|(at, _)| alone(*at))
        .collect();
    let braced = text.contains('{') || text.contains("lambda");
    matches!(own[..], [(at, _)] if !braced && !text[..at].contains(['«', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::context::Context;
    use crate::generate::template::expand;

    #[test]
    fn the_shipped_table_parses() {
        let table = read(FILE).unwrap_or_else(|error| panic!("{error}"));
        assert!(table.len() > 400, "{}", table.len());
        for operation in &table {
            let literal = expand(operation.subject.literal(), &mut Context::new(1, 2, 3));
            assert!(!literal.is_empty());
            assert!(operation.weight > 0);
        }
    }

    #[test]
    fn a_line_says_what_is_made() {
        let table = read("== ints 2\n3 int,*ints:=!-1 §.x(§ints)\n").expect("a table");
        let Operation {
            size,
            made,
            change,
            chains,
            ..
        } = &table[0];
        assert_eq!((*size, *change, *chains), (2, Some(-1), false));
        assert_eq!(
            (made[0].ty, made[1].starred, made[1].size),
            (Ty::Int, true, None)
        );
    }

    #[test]
    fn only_what_takes_its_subject_once_takes_an_expression() {
        for text in ["§.upper()", "len(§)", "§ + §text", "max(§, default=«0|1»)"] {
            assert!(is_once(text), "{text}");
        }
        for text in ["§ + §", "f'{§}'", "«a|§»", "@int(0,5)"] {
            assert!(!is_once(text), "{text}");
        }
    }

    #[test]
    fn mistakes_are_reported_with_the_line() {
        for broken in [
            "1 int §",
            "== texts\n",
            "== text\n1 in §",
            "== text\nx int §",
            "== text\n1 int",
        ] {
            let error = read(broken).expect_err(broken);
            assert!(
                error.contains(broken.lines().last().expect("a line").trim()),
                "{error}"
            );
        }
    }
}
