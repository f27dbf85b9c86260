//! What kind of thing a value is, as far as its text shows it.

/// The type that a value's text shows.
pub fn type_of(text: &str) -> &'static str {
    let body = text.strip_prefix('-').unwrap_or(text);
    let is_number = body.starts_with(|c: char| c.is_ascii_digit());
    match text.chars().next() {
        _ if text == "None" => "none",
        _ if text == "True" || text == "False" => "bool",
        _ if is_number && body.ends_with('j') => "complex",
        _ if is_number && body.contains(['.', 'e']) => "float",
        _ if is_number => "int",
        Some('\'' | '"') => "str",
        Some('[') => "list",
        Some('(') => "tuple",
        Some('{') if text == "{}" || is_dict(text) => "dict",
        Some('{') => "set",
        _ if text == "set()" => "set",
        _ if text.starts_with("b'") || text.starts_with("b\"") => "bytes",
        Some('<') => "object shown by its type",
        _ => "object",
    }
}

/// Whether the first item between braces has a key.
fn is_dict(text: &str) -> bool {
    let mut depth = 0;
    let mut quote = None;
    let mut is_escaped = false;
    for c in text.chars() {
        match (quote, c) {
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[' | '(' | '{') => depth += 1,
            (None, ']' | ')' | '}') => depth -= 1,
            (None, ':') if depth == 1 => return true,
            (None, ',') if depth == 1 => return false,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_by_their_text() {
        for (text, kind) in [
            ("None", "none"),
            ("True", "bool"),
            ("-3", "int"),
            ("1e-05", "float"),
            ("2j", "complex"),
            ("'a: b'", "str"),
            ("b'x'", "bytes"),
            ("[1]", "list"),
            ("()", "tuple"),
            ("{}", "dict"),
            ("{'a,': 1}", "dict"),
            ("{(1, 2): 3}", "dict"),
            ("{'a:', 2}", "set"),
            ("set()", "set"),
            ("<function f>", "object shown by its type"),
            ("Point(x=1)", "object"),
            ("inf", "object"),
        ] {
            assert_eq!(type_of(text), kind, "{text}");
        }
    }
}
