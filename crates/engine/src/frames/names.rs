//! The names that variables of a program can have.

use std::collections::BTreeSet;

/// What a trace may list as variables.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) listed: BTreeSet<String>,
    /// Whether there may be others, which cannot be known from the source.
    pub(super) is_open: bool,
}

/// What Python binds in the body of a class.
const OF_CLASSES: [&str; 16] = [
    "__module__",
    "__qualname__",
    "__doc__",
    "__firstlineno__",
    "__static_attributes__",
    "__annotations__",
    "__annotate__",
    "__annotate_func__",
    "__conditional_annotations__",
    "__class__",
    "__classcell__",
    "__classdict__",
    "__classdictcell__",
    "__orig_bases__",
    "__type_params__",
    ".format",
];

/// What Python binds where a function, class or type has type parameters.
const OF_TYPE_PARAMETERS: [&str; 4] = [".type_params", ".generic_base", ".defaults", ".kwdefaults"];

/// Words that can bind names which are written nowhere.
const OPENING: [&str; 8] = [
    "exec",
    "globals",
    "locals",
    "vars",
    "setattr",
    "__dict__",
    "__prepare__",
    "f_locals",
];

/// Collects the names that sources can bind: every identifier in them, comments and strings
/// included, and what Python itself binds.
pub(super) fn names(sources: &[&str]) -> Names {
    let words: BTreeSet<&str> = sources.iter().flat_map(|source| words_of(source)).collect();
    let has = |word: &str| words.contains(word);
    let mut listed: BTreeSet<String> = words.iter().map(|&word| word.to_owned()).collect();
    let mut add = |names: &[&str]| listed.extend(names.iter().map(|&name| name.to_owned()));
    if has("for") {
        add(&[".0"]);
    }
    if has("class") {
        add(&OF_CLASSES);
    }
    let lines = || sources.iter().flat_map(|source| source.lines());
    if lines().any(has_type_parameters) {
        add(&OF_TYPE_PARAMETERS);
    }
    listed.extend(mangled(&words, lines()));
    let imports_all = lines().any(|line| {
        let line = line.trim_start();
        line.starts_with("from ") && line.contains("import") && line.contains('*')
    });
    // Python normalises such identifiers, so that they need not stand in the source.
    let is_foreign = words.iter().any(|word| !word.is_ascii());
    Names {
        listed,
        is_open: imports_all || is_foreign || OPENING.iter().any(|word| has(word)),
    }
}

fn words_of(source: &str) -> impl Iterator<Item = &str> {
    source
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        // A number may touch the word behind it: `[0for x in y]`.
        .map(|word| word.trim_start_matches(|c: char| c.is_ascii_digit()))
        .filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
}

/// Whether a line is the head of a definition with parameters in brackets before those in parentheses.
fn has_type_parameters(line: &str) -> bool {
    let line = line.trim_start();
    let line = line.strip_prefix("async ").map_or(line, str::trim_start);
    let defined = ["def ", "class ", "type "]
        .iter()
        .find_map(|word| line.strip_prefix(word));
    defined.is_some_and(|rest| {
        let head = rest.split(['(', ':', '=']).next();
        head.is_some_and(|head| head.contains('['))
    })
}

/// Names such as `__x` as they are called inside classes: `_Class__x`.
fn mangled<'a>(
    words: &BTreeSet<&str>,
    lines: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = String> {
    let private: Vec<&str> = words
        .iter()
        .filter(|word| word.starts_with("__") && !word.ends_with("__"))
        .copied()
        .collect();
    let class = |line: &'a str| {
        let rest = line.trim_start().strip_prefix("class ")?;
        let name = words_of(rest).next()?.trim_start_matches('_');
        (!name.is_empty()).then_some(name)
    };
    let classes: BTreeSet<&str> = lines.filter_map(class).collect();
    let of_class = move |class: &str| {
        let names = private.iter().map(|name| format!("_{class}{name}"));
        names.collect::<Vec<String>>()
    };
    classes.into_iter().flat_map(of_class)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(source: &str) -> Vec<String> {
        names(&[source]).listed.into_iter().collect()
    }

    #[test]
    fn identifiers_and_what_python_adds() {
        assert_eq!(listed("x = y1 + 2\n"), ["x", "y1"]);
        assert_eq!(listed("[a for a in b]"), [".0", "a", "b", "for", "in"]);
        let in_class = listed("class _A:\n    def f(self): __x = 1; __y__ = 2\n");
        assert!(in_class.iter().any(|name| name == "__qualname__"));
        assert!(in_class.iter().any(|name| name == "_A__x"));
        assert!(!in_class.iter().any(|name| name.contains("A__y")));
        for (source, has) in [
            ("def f[T](x: T): pass", true),
            ("async def f [T](x): pass", true),
            ("class A[T]: pass", true),
            ("def f(x=[1]): pass", false),
            ("x[0] = 1", false),
        ] {
            let found = listed(source).iter().any(|name| name == ".type_params");
            assert_eq!(found, has, "{source}");
        }
    }

    #[test]
    fn some_sources_can_bind_anything() {
        for (source, is_open) in [
            ("x = 1", false),
            ("from math import *", true),
            ("from math import (pi, e)", false),
            ("globals()['x'] = 1", true),
            ("größe = 1", true),
        ] {
            assert_eq!(names(&[source]).is_open, is_open, "{source}");
        }
    }
}
