//! Which constructs of Python a source text uses, seen from its tokens: without a parser, line by line. What a
//! compiler would tell apart by scope (a name that is rebound, a method that is the program's own) is not told
//! apart here.

use std::collections::BTreeSet;

use crate::fingerprint::BUILTINS;
use crate::lexer::{Token, tokens};

/// Statements told apart by the word they begin with.
const STATEMENTS: &[&str] = &[
    "for", "while", "if", "elif", "else", "def", "class", "return", "yield", "break", "continue",
    "try", "except", "finally", "raise", "assert", "nonlocal", "global", "del", "with", "pass",
    "import", "from",
];

/// Operators that count by themselves.
const OPERATORS: &[&str] = &[
    "+", "-", "*", "/", "//", "%", "**", "<<", ">>", "&", "|", "^", "~", "@", "==", "!=", "<", ">",
    "<=", ">=", "+=", "-=", "*=", "/=", "//=", "%=", "|=", "&=", "^=", "<<=", ">>=", "**=", ":=",
];

const COMPARISONS: &[&str] = &["==", "!=", "<", ">", "<=", ">="];

/// Methods of the types that are built in, and of the most usual ones of the standard library.
#[rustfmt::skip]
const METHODS: &[&str] = &[
    // Texts and bytes.
    "capitalize", "casefold", "center", "count", "decode", "encode", "endswith", "expandtabs", "find", "format",
    "format_map", "hex", "index", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower",
    "isnumeric", "isprintable", "isspace", "istitle", "isupper", "join", "ljust", "lower", "lstrip", "maketrans",
    "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip",
    "split", "splitlines", "startswith", "strip", "swapcase", "title", "translate", "upper", "zfill",
    // Lists, dicts, sets.
    "add", "append", "clear", "copy", "difference", "difference_update", "discard", "extend", "fromkeys", "get", "insert",
    "intersection", "intersection_update", "isdisjoint", "issubset", "issuperset", "items", "keys", "pop", "popitem",
    "remove", "reverse", "setdefault", "sort", "symmetric_difference", "symmetric_difference_update", "union", "update",
    "values",
    // Numbers.
    "as_integer_ratio", "bit_length", "from_bytes", "is_integer", "to_bytes",
    // Generators, and the standard library.
    "appendleft", "ceil", "close", "comb", "dist", "elements", "extendleft", "factorial", "floor", "from_iterable", "gcd",
    "hypot", "isclose", "isqrt", "most_common", "move_to_end", "popleft", "prod", "rotate", "send", "sqrt", "subtract",
    "throw", "trunc",
];

/// What one source text uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Constructs<'a> {
    pub(crate) statements: BTreeSet<&'a str>,
    pub(crate) expressions: BTreeSet<&'a str>,
    /// Builtins that it calls or names.
    pub(crate) functions: BTreeSet<&'a str>,
    pub(crate) methods: BTreeSet<&'a str>,
}

/// A block that a line is in, or was in just before.
struct Opened<'a> {
    indent: usize,
    word: &'a str,
    name: &'a str,
}

/// Looks at a source text.
pub(crate) fn constructs(source: &str) -> Constructs<'_> {
    let mut found = Constructs::default();
    let mut open: Vec<Opened> = Vec::new();
    for line in source.lines() {
        let tokens = tokens(line);
        let tokens: Vec<Token> = tokens
            .into_iter()
            .filter(|token| !is_layout(token))
            .collect();
        if tokens.is_empty() {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let first = word(tokens.first());
        // The block that ends at this line's margin says what an `else` belongs to.
        let before = open
            .iter()
            .rfind(|block| block.indent == indent)
            .map(|block| block.word);
        open.retain(|block| block.indent < indent);
        found.statement(first, &tokens, before, &open);
        found.calls(&tokens, &open);
        found.expressions(first, &tokens);
        let name = word(tokens.get(1));
        // `else` and its like go on with the statement they belong to.
        let word = match (first, before) {
            ("elif" | "else" | "except" | "finally", Some(before)) => before,
            _ => first,
        };
        open.push(Opened { indent, word, name });
    }
    found
}

fn is_layout(token: &Token) -> bool {
    matches!(token, Token::Newline | Token::Indent | Token::Dedent)
}

fn word<'a>(token: Option<&Token<'a>>) -> &'a str {
    match token {
        Some(Token::Word(word)) => word,
        _ => "",
    }
}

impl<'a> Constructs<'a> {
    fn statement(
        &mut self,
        first: &'a str,
        tokens: &[Token<'a>],
        before: Option<&str>,
        open: &[Opened],
    ) {
        if STATEMENTS.contains(&first) {
            self.statements.insert(first);
        }
        let inside = open.iter().rev().map(|block| block.word);
        let special = match (first, before) {
            ("else", Some("for" | "while")) => "loop else",
            ("else", Some("try")) => "try else",
            ("def", _) if open.last().is_some_and(|block| block.word == "class") => "method",
            ("def", _) if inside.clone().any(|word| word == "def") => "nested function",
            ("class", _) if tokens.len() > 3 => "inheritance",
            ("raise", _) if tokens.contains(&Token::Word("from")) => "raise from",
            ("", _) if tokens[0] == Token::Sign("@") => "@",
            _ => "",
        };
        if !special.is_empty() {
            self.statements.insert(special);
        }
        if tokens
            .windows(2)
            .any(|pair| pair == [Token::Word("yield"), Token::Word("from")])
        {
            self.statements.insert("yield from");
        }
        if first != "yield" && tokens.contains(&Token::Word("yield")) {
            self.statements.insert("yield");
        }
        let dunder = word(tokens.get(1));
        if first == "def" && dunder.starts_with("__") && dunder != "__init__" {
            self.statements.insert("special method");
        }
        if tokens[0] == Token::Sign("@") {
            match word(tokens.get(1)) {
                "property" => self.statements.insert("property"),
                "dataclass" => self.statements.insert("data class"),
                "classmethod" => self.statements.insert("class method"),
                "staticmethod" => self.statements.insert("static method"),
                _ => false,
            };
        }
    }

    /// Builtins, methods and recursive calls.
    fn calls(&mut self, tokens: &[Token<'a>], open: &[Opened]) {
        for (at, token) in tokens.iter().enumerate() {
            let Token::Word(name) = *token else {
                self.inside_text(token);
                continue;
            };
            let before = at.checked_sub(1).map(|at| tokens[at]);
            let after = tokens.get(at + 1).copied();
            let is_called = after == Some(Token::Sign("("));
            if before == Some(Token::Sign(".")) {
                // A method that is handed on, as in `map(str.upper, words)`, is used as well.
                if METHODS.contains(&name) && after != Some(Token::Sign("=")) {
                    self.methods.insert(name);
                }
                continue;
            }
            if matches!(
                before,
                Some(Token::Word("def" | "class" | "import" | "from"))
            ) {
                continue;
            }
            if BUILTINS.contains(&name) && after != Some(Token::Sign("=")) {
                self.functions.insert(name);
            }
            if is_called
                && open
                    .iter()
                    .any(|block| block.word == "def" && block.name == name)
            {
                self.expressions.insert("recursion");
            }
        }
    }

    /// What a text literal shows of itself.
    fn inside_text(&mut self, token: &Token<'a>) {
        match token {
            Token::Text { prefix, content } if prefix.contains(['f', 'F']) => {
                self.expressions.insert("f-string");
                let inner = content
                    .split('{')
                    .skip(1)
                    .filter_map(|part| part.split('}').next());
                for part in inner {
                    if part
                        .rsplit(':')
                        .next()
                        .is_some_and(|spec| part.contains(':') && !spec.contains(['\'', ']']))
                    {
                        self.expressions.insert("format specification");
                    }
                    if part.contains("!r") {
                        self.expressions.insert("conversion");
                    }
                }
            }
            Token::Text { prefix, .. } if prefix.contains(['b', 'B']) => {
                self.expressions.insert("bytes");
            }
            Token::Number(number) if number.contains('.') => {
                self.expressions.insert("float");
            }
            _ => {}
        }
    }

    fn expressions(&mut self, first: &'a str, tokens: &[Token<'a>]) {
        let mut brackets: Vec<Bracket> = vec![Bracket::default()];
        for (at, token) in tokens.iter().enumerate() {
            let before = at.checked_sub(1).map(|at| tokens[at]);
            match *token {
                Token::Sign(open @ ("(" | "[" | "{")) => brackets.push(Bracket {
                    open,
                    is_call: matches!(before, Some(Token::Word(_) | Token::Sign(")" | "]"))),
                    ..Bracket::default()
                }),
                Token::Sign(")" | "]" | "}") if brackets.len() > 1 => {
                    brackets.pop();
                }
                Token::Sign(sign) => {
                    if OPERATORS.contains(&sign) && before.is_some_and(is_operand)
                        || matches!(sign, "~" | ":=")
                    {
                        self.expressions.insert(sign);
                    }
                    let current = brackets.last_mut();
                    current
                        .into_iter()
                        .for_each(|bracket| self.sign(first, sign, before, bracket));
                }
                Token::Word(word) => {
                    let depth = brackets.len();
                    let current = brackets.last_mut();
                    current
                        .into_iter()
                        .for_each(|bracket| self.word(word, at, depth, bracket));
                }
                _ => {}
            }
        }
    }

    fn sign(
        &mut self,
        first: &str,
        sign: &'a str,
        before: Option<Token>,
        bracket: &mut Bracket<'_>,
    ) {
        let unary = !before.is_some_and(is_operand);
        if COMPARISONS.contains(&sign) {
            bracket.compared(&mut self.expressions);
        }
        match sign {
            "," => {
                bracket.comparisons = 0;
                bracket.commas += 1;
            }
            ":" => {
                bracket.colons += 1;
                bracket.comparisons = 0;
                if bracket.open == "[" && bracket.is_call {
                    self.expressions.insert("slice");
                    if bracket.colons == 2 {
                        self.expressions.insert("slice with step");
                    }
                }
            }
            "=" if bracket.open == "(" => {
                let kind = if first == "def" {
                    "default argument"
                } else {
                    "keyword argument"
                };
                self.expressions.insert(kind);
            }
            "=" if bracket.open.is_empty() && bracket.commas > 0 => {
                self.expressions.insert("unpacking");
            }
            "*" if unary => {
                let kind = if first == "def" { "*args" } else { "starred" };
                self.expressions.insert(kind);
            }
            "**" if unary => {
                let kind = if first == "def" {
                    "**kwargs"
                } else {
                    "** unpacking"
                };
                self.expressions.insert(kind);
            }
            "->" => {
                self.expressions.insert("annotation");
            }
            _ => {}
        }
    }

    fn word(&mut self, word: &'a str, at: usize, depth: usize, bracket: &mut Bracket<'_>) {
        match word {
            "lambda" | "and" | "or" | "not" | "is" => {
                self.expressions.insert(word);
                if word != "not" {
                    bracket.comparisons = 0;
                }
            }
            "in" if bracket.loops == 0 && (depth > 1 || at > 0) => {
                self.expressions.insert("in");
            }
            "for" if depth > 1 => {
                bracket.loops += 1;
                let kind = match (bracket.open, bracket.colons) {
                    ("[", _) => "list comprehension",
                    ("{", 0) => "set comprehension",
                    ("{", _) => "dict comprehension",
                    _ => "generator expression",
                };
                self.expressions.insert(kind);
                if bracket.loops > 1 {
                    self.expressions.insert("nested comprehension");
                }
            }
            "if" if bracket.loops > 0 => {
                self.expressions.insert("filtered comprehension");
            }
            "else" if at > 0 => {
                self.expressions.insert("conditional expression");
            }
            _ => {}
        }
    }
}

/// What was seen since a bracket was opened.
#[derive(Default)]
struct Bracket<'a> {
    open: &'a str,
    /// Whether it is a call or an index rather than a display.
    is_call: bool,
    colons: usize,
    commas: usize,
    loops: usize,
    comparisons: usize,
}

impl Bracket<'_> {
    fn compared(&mut self, found: &mut BTreeSet<&str>) {
        self.comparisons += 1;
        if self.comparisons > 1 {
            found.insert("chained comparison");
        }
    }
}

/// Whether an operator behind this token has a left side.
fn is_operand(token: Token) -> bool {
    match token {
        Token::Word(word) => ![
            "return", "yield", "print", "in", "and", "or", "not", "if", "else", "lambda",
        ]
        .contains(&word),
        Token::Sign(sign) => matches!(sign, ")" | "]" | "}"),
        Token::Newline | Token::Indent | Token::Dedent => false,
        Token::Number(_) | Token::Text { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, statements: &[&str], expressions: &[&str]) {
        let found = constructs(source);
        let listed = |found: &BTreeSet<&str>| {
            found
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(listed(&found.statements), statements, "{source}");
        assert_eq!(listed(&found.expressions), expressions, "{source}");
    }

    #[test]
    fn comprehensions_are_told_apart() {
        check(
            "[x for x in xs if x]",
            &[],
            &["filtered comprehension", "list comprehension"],
        );
        check("{x for x in xs}", &[], &["set comprehension"]);
        check("{x: y for x, y in xs}", &[], &["dict comprehension"]);
        check(
            "f(x for r in m for x in r)",
            &[],
            &["generator expression", "nested comprehension"],
        );
    }

    #[test]
    fn blocks_are_told_apart() {
        let source = "for x in y:\n    break\nelse:\n    pass\ntry:\n    pass\nexcept E:\n    pass\nelse:\n    pass\n";
        check(
            source,
            &[
                "break",
                "else",
                "except",
                "for",
                "loop else",
                "pass",
                "try",
                "try else",
            ],
            &["in"],
        );
        let source = "def f():\n    def g():\n        return f()\nclass A(B):\n    def __len__(self):\n        yield from a\n";
        let expected = [
            "class",
            "def",
            "inheritance",
            "method",
            "nested function",
            "return",
            "special method",
            "yield",
            "yield from",
        ];
        check(source, &expected, &["recursion"]);
        check("@property\n", &["@", "property"], &[]);
    }

    #[test]
    fn operators_and_arguments_are_told_apart() {
        check(
            "a, *b = c[::2]",
            &[],
            &["slice", "slice with step", "starred", "unpacking"],
        );
        check(
            "def f(a=1, *b, **c): pass",
            &["def"],
            &["**kwargs", "*args", "default argument"],
        );
        check(
            "f(*a, **b, c=-1.5)",
            &[],
            &["** unpacking", "float", "keyword argument", "starred"],
        );
        check(
            "if 0 < x <= 3: pass",
            &["if"],
            &["<", "<=", "chained comparison"],
        );
        check("x < 1 and y > 2", &[], &["<", ">", "and"]);
        check(
            "f'{x!r:>4} {y:.2f}'",
            &[],
            &["conversion", "f-string", "format specification"],
        );
        check(
            "(n := 3) if a else b",
            &[],
            &[":=", "conditional expression"],
        );
    }

    #[test]
    fn builtins_and_methods_are_found() {
        let found =
            constructs("print(sorted(s.split(), key=len), list(map(str.upper, ws)))\nobj.walk()\n");
        assert_eq!(
            Vec::from_iter(found.functions),
            ["len", "list", "map", "print", "sorted", "str"]
        );
        assert_eq!(Vec::from_iter(found.methods), ["split", "upper"]);
        let own = constructs("def max(x):\n    return x\nmin = 3\n");
        assert!(own.functions.is_empty(), "{own:?}");
    }
}
