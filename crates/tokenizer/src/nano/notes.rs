//! What is added to plain text where it helps a small model: values behind
//! names, numbers for places.

use std::collections::HashMap;

use cwm_trace::live::Mark;

use super::names::Context;
use super::vocabulary::{ORDINALS, Token};

/// What is written behind the first occurrence of a name.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) values: HashMap<String, Vec<Token>>,
    pub(super) definitions: HashMap<String, Vec<Token>>,
}

impl Notes {
    pub(super) fn write(&mut self, name: &str, context: Context, out: &mut Vec<Token>) {
        let value = match context {
            Context::Variable => self.values.remove(name),
            Context::Attribute => None,
            Context::KeywordArgument => return,
        };
        let lines = self.definitions.remove(name);
        if value.is_some() || lines.is_some() {
            out.extend(value.into_iter().flatten());
            out.extend(lines.into_iter().flatten());
            out.push(Token::Mark(Mark::Item));
        }
    }
}

/// Counts commas by bracket: each is written as the index of the item it
/// stands before, so that places in a list can be told apart. Commas outside
/// brackets and trailing ones stay commas.
#[derive(Debug, Default)]
pub(super) struct Commas(Vec<u32>);

impl Commas {
    pub(super) fn token(&mut self, operator: &'static str, last: bool) -> Token {
        match operator {
            "(" | "[" | "{" => self.0.push(0),
            ")" | "]" | "}" => {
                self.0.pop();
            }
            "," if !last => {
                if let Some(index) = self.0.last_mut() {
                    *index = (*index + 1) % ORDINALS;
                    return Token::Ordinal(*index);
                }
            }
            _ => {}
        }
        Token::Operator(operator)
    }
}

/// The comma that an ordinal inside a value stands for.
pub(super) fn comma(token: Token) -> Token {
    match token {
        Token::Ordinal(_) => Token::Operator(","),
        token => token,
    }
}

/// Puts its index before each character but the first of a string.
pub(super) fn number_characters(tokens: &[Token]) -> Vec<Token> {
    let [quote @ Token::Quote(_), content @ .., end] = tokens else {
        return tokens.to_vec();
    };
    if content.contains(quote) {
        return tokens.to_vec();
    }
    let mut out = vec![*quote];
    for (i, &token) in content.iter().enumerate() {
        if i > 0 {
            out.push(Token::Ordinal(i as u32 % ORDINALS));
        }
        out.push(token);
    }
    out.push(*end);
    out
}

/// Puts [`Mark::Next`] before the item of a container, or the character of a
/// string, that has `consumed` others before it; before the end once all are
/// consumed.
pub(super) fn point_at(consumed: u32, tokens: &[Token]) -> Vec<Token> {
    let places: Vec<usize> = match tokens {
        [quote @ Token::Quote(_), .., end] if quote == end => (1..tokens.len()).collect(),
        [
            Token::Operator("(" | "[" | "{"),
            ..,
            Token::Operator(")" | "]" | "}"),
        ] => items(tokens),
        _ => Vec::new(),
    };
    let mut out = tokens.to_vec();
    if let Some(&place) = places.get(consumed as usize) {
        out.insert(place, Token::Mark(Mark::Next));
    }
    out
}

/// Where the items of a container begin, and where it ends.
fn items(tokens: &[Token]) -> Vec<usize> {
    let end = tokens.len() - 1;
    let mut places = Vec::from_iter((end > 1).then_some(1));
    let mut depth = 0;
    let mut open = None;
    for (at, &token) in tokens.iter().enumerate() {
        match token {
            Token::Quote(_) if open == Some(token) => open = None,
            Token::Quote(_) if open.is_none() => open = Some(token),
            _ if open.is_some() => {}
            Token::Operator("(" | "[" | "{") => depth += 1,
            Token::Operator(")" | "]" | "}") => depth -= 1,
            Token::Ordinal(_) if depth == 1 => places.push(at + 1),
            _ => {}
        }
    }
    places.push(end);
    places
}
