//! Equality of programs up to the choice of names and the layout.
//!
//! A model that sees canonical symbols cannot tell apart two programs that differ only in names, so
//! neither deduplication nor the separation of training from evaluation may.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use cwm_trace::Entry;
use sha2::{Digest, Sha256};

/// Whether a word means the same in every program that does not define it.
pub(crate) fn is_known(word: &str) -> bool {
    static KNOWN: OnceLock<HashSet<&str>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        [KEYWORDS, BUILTINS, EXCEPTIONS]
            .concat()
            .into_iter()
            .collect()
    });
    known.contains(word)
}

/// Words of the lines that import something: they say what is meant, where a name of one's own does not.
pub(crate) fn imported(source: &str) -> Vec<&str> {
    let lines = source.lines().map(str::trim_start);
    let imports = lines.filter(|line| line.starts_with("from ") || line.starts_with("import "));
    let is_inner = |c: char| c.is_alphanumeric() || c == '_';
    let words = imports.flat_map(|line| line.split(move |c| !is_inner(c)));
    words.filter(|word| !word.is_empty()).collect()
}

/// Digest of a program's source and entry with its own names made anonymous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 16]);

/// Python's keywords: these words and the two lists below stay as they are.
const KEYWORDS: &[&str] = &[
    "False", "None", "True", "and", "as", "assert", "break", "class", "continue", "def", "del",
    "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
    "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// Builtin functions and types that programs use, and none that generated programs of levels 1 to 4 take for
/// names of their own.
pub(crate) const BUILTINS: &[&str] = &[
    "abs",
    "all",
    "any",
    "ascii",
    "bin",
    "bool",
    "bytearray",
    "bytes",
    "callable",
    "chr",
    "classmethod",
    "complex",
    "delattr",
    "dict",
    "divmod",
    "enumerate",
    "filter",
    "float",
    "format",
    "frozenset",
    "getattr",
    "hasattr",
    "hash",
    "hex",
    "id",
    "int",
    "isinstance",
    "issubclass",
    "iter",
    "len",
    "list",
    "map",
    "max",
    "memoryview",
    "min",
    "next",
    "object",
    "oct",
    "ord",
    "pow",
    "print",
    "property",
    "range",
    "repr",
    "reversed",
    "round",
    "set",
    "setattr",
    "slice",
    "sorted",
    "staticmethod",
    "str",
    "sum",
    "super",
    "tuple",
    "type",
    "vars",
    "zip",
];

const EXCEPTIONS: &[&str] = &[
    "ArithmeticError",
    "AssertionError",
    "AttributeError",
    "BaseException",
    "Exception",
    "GeneratorExit",
    "IndexError",
    "KeyError",
    "LookupError",
    "NameError",
    "NotImplementedError",
    "OverflowError",
    "RecursionError",
    "RuntimeError",
    "StopIteration",
    "TypeError",
    "UnicodeError",
    "ValueError",
    "ZeroDivisionError",
];

/// The fingerprint of a program. Comments, blank lines and the kind of quotation marks do not count.
pub fn fingerprint(source: &str, entry: &Entry) -> Fingerprint {
    let mut names = Names {
        own: HashMap::new(),
        imported: imported(source),
    };
    let mut canonical = String::with_capacity(source.len());
    for line in source.lines() {
        let before = canonical.len();
        canonicalise(line, &mut names, &mut canonical);
        let kept = before + canonical[before..].trim_end().len();
        canonical.truncate(kept);
        if kept > before {
            canonical.push('\n');
        }
    }
    if let Entry::Call { function, args } = entry {
        canonicalise(&format!("{function}({args})"), &mut names, &mut canonical);
    }
    let digest = Sha256::digest(canonical.as_bytes());
    Fingerprint(std::array::from_fn(|i| digest[i]))
}

/// What the names of a program are.
struct Names<'a> {
    own: HashMap<String, usize>,
    imported: Vec<&'a str>,
}

/// Appends `line` with its names numbered in order of appearance and its comment dropped.
fn canonicalise(line: &str, names: &mut Names, out: &mut String) {
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let len = if c == '#' {
            break;
        } else if c == '\'' || c == '"' {
            let end = rest[1..].find(c).map_or(rest.len(), |at| at + 1);
            out.push('\'');
            out.push_str(&rest[1..end]);
            out.push('\'');
            (end + 1).min(rest.len())
        } else if c.is_alphabetic() || c == '_' {
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let word = &rest[..end];
            let attribute = out.ends_with('.');
            let prefix = end == 1 && rest[1..].starts_with(['\'', '"']);
            if attribute || prefix || is_known(word) || names.imported.contains(&word) {
                out.push_str(word);
            } else {
                let count = names.own.len();
                let number = *names.own.entry(word.to_owned()).or_insert(count);
                out.push_str(&format!("${number}"));
            }
            end
        } else if c.is_ascii_digit() {
            // Taken whole, so that a digit never touches the number of a name.
            let end = rest
                .find(|c: char| !c.is_alphanumeric())
                .unwrap_or(rest.len());
            out.push_str(&rest[..end]);
            end
        } else {
            out.push(c);
            c.len_utf8()
        };
        rest = &rest[len..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn module(source: &str) -> Fingerprint {
        fingerprint(source, &Entry::Module)
    }

    #[test]
    fn names_quotes_comments_and_blank_lines_do_not_count() {
        assert_eq!(
            module("# note\ntotal = 'a'\n\nprint(total)\n"),
            module("x = \"a\"\nprint(x)  # shown\n"),
        );
    }

    #[test]
    fn structure_values_and_methods_count() {
        let base = module("x = 1\ny = x\n");
        assert_ne!(base, module("x = 2\ny = x\n"));
        assert_ne!(base, module("x = 1\nx = x\n"));
        assert_ne!(module("s.upper()\n"), module("s.lower()\n"));
        assert_ne!(module("print('a b')\n"), module("print('a c')\n"));
    }

    #[test]
    fn what_is_imported_is_not_a_name_of_ones_own() {
        let program = |name: &str| {
            module(&format!(
                "from collections import {name}\nx = {name}('ab')\n"
            ))
        };
        assert_ne!(program("deque"), program("Counter"));
        // Without the import it is a class of the program's own.
        let own = |name: &str| module(&format!("class {name}:\n    pass\n"));
        assert_eq!(own("Counter"), own("Clicker"));
        assert_ne!(module("print(round(1.5))\n"), module("print(repr(1.5))\n"));
    }

    #[test]
    fn the_arguments_of_the_entry_count() {
        let call = |args: &str| Entry::Call {
            function: "f".into(),
            args: args.into(),
        };
        let source = "def f(x):\n    return x\n";
        assert_ne!(
            fingerprint(source, &call("1")),
            fingerprint(source, &call("2"))
        );
        assert_ne!(fingerprint(source, &call("1")), module(source));
    }

    proptest! {
        #[test]
        fn any_text_has_a_fingerprint(text in "\\PC{0,60}") {
            module(&text);
        }
    }
}
