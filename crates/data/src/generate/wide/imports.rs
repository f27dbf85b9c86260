//! Import lines for what a program uses of the standard library.

use crate::lexer::{Token, tokens};

/// Names by the module that has them.
const NAMES: &[(&str, &[&str])] = &[
    (
        "collections",
        &[
            "Counter",
            "OrderedDict",
            "defaultdict",
            "deque",
            "namedtuple",
        ],
    ),
    ("contextlib", &["contextmanager", "suppress"]),
    ("dataclasses", &["asdict", "dataclass", "field", "replace"]),
    ("enum", &["Enum", "IntEnum"]),
    ("abc", &["ABC", "abstractmethod"]),
    ("bisect", &["bisect_left", "bisect_right", "insort"]),
    ("copy", &["copy", "deepcopy"]),
    ("fractions", &["Fraction"]),
    (
        "functools",
        &["partial", "reduce", "total_ordering", "wraps"],
    ),
    (
        "heapq",
        &["heapify", "heappop", "heappush", "nlargest", "nsmallest"],
    ),
    (
        "itertools",
        &[
            "accumulate",
            "chain",
            "combinations",
            "cycle",
            "groupby",
            "islice",
            "permutations",
            "product",
            "repeat",
            "takewhile",
            "dropwhile",
            "zip_longest",
        ],
    ),
    ("operator", &["attrgetter", "itemgetter"]),
    (
        "string",
        &[
            "ascii_letters",
            "ascii_lowercase",
            "ascii_uppercase",
            "punctuation",
        ],
    ),
];

/// Modules that are used by their own name.
const MODULES: &[&str] = &["math", "operator", "re"];

/// Names that variables have as well: only a call is what the library has.
const CALLED: &[&str] = &["copy", "cycle", "field", "product", "repeat", "replace"];

/// A source text with the import lines that it needs before it.
pub(crate) fn with_imports(source: &str) -> String {
    match imports(source) {
        none if none.is_empty() => source.to_owned(),
        lines => format!("{lines}\n{source}"),
    }
}

/// The import lines that a source text needs, sorted; empty where it needs none.
fn imports(source: &str) -> String {
    let mut used: Vec<&str> = Vec::new();
    let mut modules: Vec<&str> = Vec::new();
    let mut own: Vec<&str> = Vec::new();
    let tokens = tokens(source);
    collect(&tokens, &mut used, &mut modules, &mut own);
    for token in &tokens {
        // Code inside formatted texts uses names, too.
        if let Token::Text { prefix, content } = token
            && prefix.contains('f')
        {
            collect(
                &crate::lexer::tokens(content),
                &mut used,
                &mut modules,
                &mut own,
            );
        }
    }
    let mut lines: Vec<String> = MODULES
        .iter()
        .filter(|module| modules.contains(module))
        .map(|module| format!("import {module}\n"))
        .collect();
    for (module, names) in NAMES {
        let needed = names
            .iter()
            .filter(|name| used.contains(name) && !own.contains(name));
        let needed: Vec<&str> = needed.copied().collect();
        if !needed.is_empty() {
            lines.push(format!("from {module} import {}\n", needed.join(", ")));
        }
    }
    lines.sort_by_key(|line| (line.starts_with("from"), line.clone()));
    lines.concat()
}

/// Adds the names that are called or otherwise used, the modules, and the names that the program makes itself.
fn collect<'a>(
    tokens: &[Token<'a>],
    used: &mut Vec<&'a str>,
    modules: &mut Vec<&'a str>,
    own: &mut Vec<&'a str>,
) {
    for (at, token) in tokens.iter().enumerate() {
        let Token::Word(word) = *token else {
            continue;
        };
        let before = at.checked_sub(1).map(|before| tokens[before]);
        let after = tokens.get(at + 1).copied();
        match (before, after) {
            (Some(Token::Sign(".")), _) => {}
            (Some(Token::Word("def" | "class" | "for" | "as" | "import")), _) => own.push(word),
            (_, Some(Token::Sign("."))) if MODULES.contains(&word) => modules.push(word),
            (_, Some(Token::Sign("=" | ":=" | "+="))) => own.push(word),
            _ if CALLED.contains(&word) && after != Some(Token::Sign("(")) => {}
            _ => used.push(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_imported_and_nothing_else() {
        let source = "q = deque([1])\nprint(math.sqrt(4), q.count(1), f'{Counter(q)}')\nx = reduce(f, [], deque)\n";
        let expected =
            "import math\nfrom collections import Counter, deque\nfrom functools import reduce\n";
        assert_eq!(imports(source), expected);
        assert_eq!(imports("print(1)\n"), "");
    }

    #[test]
    fn names_of_the_programs_own_are_not_imported() {
        assert_eq!(imports("class Counter:\n    pass\nx = Counter()\n"), "");
        assert_eq!(
            imports("def product(xs):\n    return xs\nproduct([])\n"),
            ""
        );
        assert_eq!(
            imports("s.replace('a', 'b')\ncopy = xs[:]\nprint(copy)\n"),
            ""
        );
    }
}
