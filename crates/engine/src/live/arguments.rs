//! Binding an argument list to a function's parameters without running
//! anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use cwm_trace::{Local, Value};

use super::literal::{Literal, Reader};

/// Why arguments cannot be bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// The argument list is no list of literals.
    #[error(
        "the arguments `{args}` are not literals ({reason}); predicting runs no code, so write values such as `3, 'text', [1, 2]`"
    )]
    NotLiteral {
        /// The argument list.
        args: String,
        /// What is wrong.
        reason: String,
    },
    /// The arguments do not fit the signature.
    #[error("`{function}({parameters})` does not take these arguments: {reason}")]
    Mismatch {
        /// The function.
        function: String,
        /// Its parameter list.
        parameters: String,
        /// What is wrong.
        reason: String,
    },
    /// A default value is no literal.
    #[error(
        "the default of `{parameter}` is `{text}`, which is not a literal; pass the argument explicitly"
    )]
    Default {
        /// The parameter.
        parameter: String,
        /// Its default's source.
        text: String,
    },
    /// The function's parameter list cannot be read.
    #[error("cannot read the parameters of `{0}`")]
    Signature(String),
}

/// Checks that a text is one literal and gives it as `repr` writes it.
///
/// # Errors
/// [`ArgumentError::NotLiteral`].
pub fn literal_repr(text: &str) -> Result<String, ArgumentError> {
    Literal::parse(text)
        .map(|l| l.repr())
        .map_err(|reason| ArgumentError::NotLiteral {
            args: text.to_owned(),
            reason,
        })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Positional,
    KeywordOnly,
    Rest,
    RestKeywords,
}

#[derive(Clone, Debug)]
struct Parameter {
    name: String,
    style: Style,
    default: Option<String>,
}

/// The parameters of a function, as its `def` line spells them.
#[derive(Clone, Debug)]
pub struct Signature {
    text: String,
    parameters: Vec<Parameter>,
}

impl Signature {
    /// Reads the parameters of the `def` at a line (1-based) of `source`;
    /// `None` if there is no whole one.
    pub fn read(source: &str, line: u32) -> Option<Self> {
        let text = parameter_text(source, line)?;
        let parameters = parse_parameters(&text);
        Some(Self { text, parameters })
    }

    /// Names in the order of the interpreter's slots.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let of = |style| self.parameters.iter().filter(move |p| p.style == style);
        [
            Style::Positional,
            Style::KeywordOnly,
            Style::Rest,
            Style::RestKeywords,
        ]
        .into_iter()
        .flat_map(of)
        .map(|p| p.name.as_str())
    }
}

/// The locals of the call event of `function(args)`: parameters in the order
/// of the interpreter's slots, values as `repr` texts.
///
/// # Errors
/// When an argument or a needed default is not a literal, or they do not fit.
pub fn bind_arguments(
    signature: &Signature,
    function: &str,
    args: &str,
) -> Result<Vec<Local>, ArgumentError> {
    let Signature { text, parameters } = signature;
    let mismatch = |reason: String| ArgumentError::Mismatch {
        function: function.to_owned(),
        parameters: text.split_whitespace().collect::<Vec<_>>().join(" "),
        reason,
    };
    let (positional, mut keywords) =
        parse_arguments(args).map_err(|reason| ArgumentError::NotLiteral {
            args: args.to_owned(),
            reason,
        })?;
    let mut positional = positional.into_iter();
    let mut bound: Vec<(String, Literal)> = Vec::new();
    for parameter in parameters.iter().filter(|p| p.style == Style::Positional) {
        let by_name = keywords.remove(&parameter.name);
        let value = match (positional.next(), by_name) {
            (Some(_), Some(_)) => {
                return Err(mismatch(format!("`{}` is given twice", parameter.name)));
            }
            (Some(value), None) | (None, Some(value)) => value,
            (None, None) => default_of(parameter, &mismatch)?,
        };
        bound.push((parameter.name.clone(), value));
    }
    for parameter in parameters.iter().filter(|p| p.style == Style::KeywordOnly) {
        let value = match keywords.remove(&parameter.name) {
            Some(value) => value,
            None => default_of(parameter, &mismatch)?,
        };
        bound.push((parameter.name.clone(), value));
    }
    let rest: Vec<Literal> = positional.collect();
    match parameters.iter().find(|p| p.style == Style::Rest) {
        Some(p) => bound.push((p.name.clone(), Literal::Tuple(rest))),
        None if rest.is_empty() => {}
        None => return Err(mismatch(format!("{} too many", rest.len()))),
    }
    match parameters.iter().find(|p| p.style == Style::RestKeywords) {
        Some(p) => {
            let items = keywords
                .into_iter()
                .map(|(k, v)| (Literal::Str(k), v))
                .collect();
            bound.push((p.name.clone(), Literal::Dict(items)));
        }
        None => {
            if let Some(name) = keywords.keys().next() {
                return Err(mismatch(format!("there is no parameter `{name}`")));
            }
        }
    }
    Ok(bound
        .into_iter()
        .map(|(name, value)| Local {
            name: Arc::from(name),
            value: Value::new(value.repr()),
        })
        .collect())
}

fn default_of(
    parameter: &Parameter,
    mismatch: &impl Fn(String) -> ArgumentError,
) -> Result<Literal, ArgumentError> {
    let Some(text) = &parameter.default else {
        return Err(mismatch(format!("`{}` is missing", parameter.name)));
    };
    Literal::parse(text).map_err(|_| ArgumentError::Default {
        parameter: parameter.name.clone(),
        text: text.clone(),
    })
}

type Arguments = (Vec<Literal>, BTreeMap<String, Literal>);

fn parse_arguments(text: &str) -> Result<Arguments, String> {
    let mut reader = Reader::new(text);
    let mut positional = Vec::new();
    let mut keywords = BTreeMap::new();
    while !reader.is_empty() {
        match reader.take_keyword() {
            Some(name) => {
                let value = reader.value()?;
                if keywords.insert(name.clone(), value).is_some() {
                    return Err(format!("`{name}` is given twice"));
                }
            }
            None if keywords.is_empty() => positional.push(reader.value()?),
            None => return Err("a positional argument follows a keyword argument".into()),
        }
        if !reader.take(",") {
            reader.end()?;
        }
    }
    Ok((positional, keywords))
}

/// The text between the parentheses of the `def` at a line, without comments.
fn parameter_text(source: &str, line: u32) -> Option<String> {
    let before: usize = source
        .split_inclusive('\n')
        .take(line.checked_sub(1)? as usize)
        .map(str::len)
        .sum();
    let rest = source.get(before..)?;
    let body = rest.trim_start();
    let body = body.strip_prefix("async").map_or(body, str::trim_start);
    let after = body.strip_prefix("def")?;
    let inside = &after[after.find('(')? + 1..];
    matching_close(inside).map(|end| without_comments(&inside[..end]))
}

/// Where the parenthesis that is open before `text` closes.
fn matching_close(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (i, c) in code_chars(text) {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => return Some(i),
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// The lines of `text` without their comments.
fn without_comments(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let comment = code_chars(line).find(|&(_, c)| c == '#');
        &line[..comment.map_or(line.len(), |(i, _)| i)]
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The characters of `text` outside strings and comments, and the `#` that
/// begins a comment, each with its place.
fn code_chars(text: &str) -> impl Iterator<Item = (usize, char)> {
    // What ends the string or comment that is open.
    let mut close: Option<char> = None;
    let mut escaped = false;
    text.char_indices().filter(move |&(_, c)| {
        let Some(end) = close else {
            close = match c {
                '\'' | '"' => Some(c),
                '#' => Some('\n'),
                _ => None,
            };
            return !matches!(c, '\'' | '"');
        };
        if escaped {
            escaped = false;
        } else if c == end {
            close = None;
        } else {
            escaped = c == '\\' && end != '\n';
        }
        false
    })
}

fn parse_parameters(text: &str) -> Vec<Parameter> {
    let mut parameters = Vec::new();
    let mut style = Style::Positional;
    for part in split_top(text, ',') {
        let part = part.trim();
        if part.is_empty() || part == "/" {
            continue;
        }
        if part == "*" {
            style = Style::KeywordOnly;
            continue;
        }
        let (name_style, rest) = match (part.strip_prefix("**"), part.strip_prefix('*')) {
            (Some(rest), _) => (Style::RestKeywords, rest),
            (None, Some(rest)) => {
                style = Style::KeywordOnly;
                (Style::Rest, rest)
            }
            (None, None) => (style, part),
        };
        let mut halves = split_top(rest, '=').into_iter();
        let head = halves.next().unwrap_or_default();
        let default = halves.next().map(|d| d.trim().to_owned());
        let name = head.split(':').next().unwrap_or_default().trim().to_owned();
        parameters.push(Parameter {
            name,
            style: name_style,
            default,
        });
    }
    parameters
}

/// Splits at a separator that stands outside brackets and strings.
fn split_top(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut depth = 0usize;
    for (i, c) in code_chars(text) {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            c if c == separator && depth == 0 => {
                parts.push(&text[start..i]);
                start = i + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
def f(a, b: int = 2, *rest, sep=',', **more):
    pass

def g(
    xs, /,
    key='a, b)',
):
    pass

def h(x=len('a')): pass

def k(
    a,  # it's the first
    b='\\'#',  # 2, 3)
):
    pass
";

    fn shown(function: &str, args: &str) -> Result<String, String> {
        let start = format!("def {function}(");
        let line = SOURCE.lines().position(|l| l.starts_with(&start)).unwrap() + 1;
        let signature = Signature::read(SOURCE, line as u32).unwrap();
        let locals = bind_arguments(&signature, function, args).map_err(|e| e.to_string())?;
        let pairs = locals
            .iter()
            .map(|l| format!("{}={}", l.name, l.value.repr));
        Ok(pairs.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn binds_as_python_does() {
        assert_eq!(shown("f", "1").unwrap(), "a=1 b=2 sep=',' rest=() more={}");
        assert_eq!(
            shown("f", "1, 2, 3, 4, sep = '-', z=[1]").unwrap(),
            "a=1 b=2 sep='-' rest=(3, 4) more={'z': [1]}"
        );
        assert_eq!(shown("g", "[1,2]").unwrap(), "xs=[1, 2] key='a, b)'");
        assert_eq!(shown("k", "1").unwrap(), "a=1 b=\"'#\"");
    }

    #[test]
    fn lines_may_end_as_on_windows() {
        let source = SOURCE.replace('\n', "\r\n");
        let signature = Signature::read(&source, 4).unwrap();
        let locals = bind_arguments(&signature, "g", "1").unwrap();
        assert_eq!(locals.len(), 2);
        assert_eq!(&*locals[1].value.repr, "'a, b)'");
    }

    #[test]
    fn says_what_does_not_fit() {
        let error = |f, a| shown(f, a).unwrap_err();
        assert!(error("f", "").contains("`a` is missing"));
        assert!(error("g", "1, 2, 3").contains("1 too many"));
        assert!(error("g", "1, nope=2").contains("no parameter `nope`"));
        assert!(error("g", "1, xs=2").contains("given twice"));
        assert!(error("f", "x + 1").contains("not literals"));
        assert!(error("h", "").contains("not a literal"));
        assert!(Signature::read("def f(a", 1).is_none());
        assert!(Signature::read(SOURCE, 2).is_none());
    }
}
