//! Values told by how they differ from what a variable held before.
//!
//! Most lines that change a list add an item to it, take one away or replace
//! one. A model that has to write the whole list anew spends most of its
//! tokens, and most of its mistakes, on copies. So a new value may be written
//! as an edit of the old one: `keep`, the items between, `rest`.
//!
//! ```text
//! edit  := keep [#n] items [rest #m]
//! ```
//!
//! `keep` takes over the first `n` items of the old value, all of them
//! without a number, and `rest` those from index `m` on. Items are those of a
//! bracket, the attributes of an object, or the characters of a string; they
//! are set apart as in the value itself.

use super::vocabulary::{ORDINALS, Token};

/// What a value is made of.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    /// All up to the first item.
    head: &'a [Token],
    items: Vec<&'a [Token]>,
    tail: Token,
}

/// What a grammar has to know of a value that may be edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Number of its items.
    pub items: u32,
    /// Whether they are characters.
    pub is_text: bool,
}

impl<'a> Parts<'a> {
    fn of(tokens: &'a [Token]) -> Option<Self> {
        let (&tail, rest) = tokens.split_last()?;
        if let [quote @ Token::Quote(_), content @ ..] = rest {
            let whole = *quote == tail && !content.contains(quote);
            return whole.then(|| Self {
                head: &rest[..1],
                items: content.chunks(1).collect(),
                tail,
            });
        }
        let open = match rest {
            [Token::Operator("(" | "[" | "{"), ..] => 1,
            [Token::Symbol(_) | Token::Word(_), Token::Operator("("), ..] => 2,
            _ => return None,
        };
        if !matches!(tail, Token::Operator(")" | "]" | "}")) {
            return None;
        }
        let items = split(&rest[open..])?;
        Some(Self {
            head: &rest[..open],
            items,
            tail,
        })
    }

    fn shape(&self) -> Shape {
        Shape {
            items: self.items.len() as u32,
            is_text: self.is_text(),
        }
    }

    fn is_text(&self) -> bool {
        matches!(self.tail, Token::Quote(_))
    }

    /// The value with these items instead.
    fn with(&self, items: &[&[Token]]) -> Vec<Token> {
        let mut out = self.head.to_vec();
        for (index, item) in items.iter().enumerate() {
            if index > 0 && !self.is_text() {
                out.push(comma(index));
            }
            out.extend_from_slice(item);
        }
        if self.head == [Token::Operator("(")] && items.len() == 1 {
            out.push(Token::Operator(","));
        }
        out.push(self.tail);
        out
    }
}

/// The comma before the item of this index.
fn comma(index: usize) -> Token {
    Token::Ordinal(index as u32 % ORDINALS)
}

/// The items inside brackets; `None` if the brackets close before the end.
fn split(tokens: &[Token]) -> Option<Vec<&[Token]>> {
    let mut items = Vec::new();
    let (mut start, mut depth, mut open) = (0, 0_u32, None);
    for (at, &token) in tokens.iter().enumerate() {
        match token {
            Token::Quote(_) | Token::Raw if open == Some(token) => open = None,
            Token::Quote(_) | Token::Raw if open.is_none() => open = Some(token),
            _ if open.is_some() => {}
            Token::Operator("(" | "[" | "{") => depth += 1,
            Token::Operator(")" | "]" | "}") => depth = depth.checked_sub(1)?,
            Token::Ordinal(_) | Token::Operator(",") if depth == 0 => {
                items.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if start < tokens.len() {
        items.push(&tokens[start..]);
    }
    (depth == 0 && open.is_none()).then_some(items)
}

/// A value whose items are written by `shorten`, which gives a shorter way to
/// write an item where there is one. Only brackets have such items.
pub(super) fn with_short_items(
    value: &[Token],
    shorten: impl Fn(&[Token]) -> Option<Vec<Token>>,
) -> Option<Vec<Token>> {
    let parts = Parts::of(value).filter(|parts| parts.head.len() == 1 && !parts.is_text())?;
    let items: Vec<Option<Vec<Token>>> = parts.items.iter().map(|item| shorten(item)).collect();
    let short = items.iter().zip(&parts.items);
    let short = short.map(|(short, whole)| short.as_deref().unwrap_or(whole));
    Some(parts.with(&short.collect::<Vec<_>>()))
}

/// What can be edited in a value.
pub(super) fn shape(tokens: &[Token]) -> Option<Shape> {
    Parts::of(tokens).map(|parts| parts.shape())
}

/// The edit that makes `new` out of `old`: the longest front is kept, then
/// the longest rest. `None` if the two are of different kinds or too long.
///
/// `shorten` gives a shorter way to write an item where there is one.
pub(super) fn edit(
    old: &[Token],
    new: &[Token],
    shorten: impl Fn(&[Token]) -> Option<Vec<Token>>,
) -> Option<Vec<Token>> {
    let (old, new) = (Parts::of(old)?, Parts::of(new)?);
    let most = old.items.len().max(new.items.len());
    if old.head != new.head || old.tail != new.tail || most >= ORDINALS as usize {
        return None;
    }
    let same = |(a, b): &(&&[Token], &&[Token])| a == b;
    let front = old.items.iter().zip(&new.items).take_while(same).count();
    let (old_left, new_left) = (&old.items[front..], &new.items[front..]);
    let backwards = old_left.iter().rev().zip(new_left.iter().rev());
    let back = backwards.take_while(same).count();
    if front + back == 0 {
        return None;
    }
    let mut out = vec![Token::Keep];
    if front < old.items.len() {
        out.push(comma(front));
    }
    for (index, item) in new_left[..new_left.len() - back].iter().enumerate() {
        if index > 0 && !new.is_text() {
            out.push(comma(front + index));
        }
        match shorten(item) {
            Some(short) => out.extend(short),
            None => out.extend_from_slice(item),
        }
    }
    if back > 0 {
        out.extend([Token::Rest, comma(old.items.len() - back)]);
    }
    Some(out)
}

/// Whether tokens are an edit.
pub(super) fn is_edit(tokens: &[Token]) -> bool {
    tokens.first() == Some(&Token::Keep)
}

/// The value that an edit makes out of `old`; `None` if it makes none.
pub(super) fn apply(old: &[Token], edit: &[Token]) -> Option<Vec<Token>> {
    let old = Parts::of(old)?;
    let (front, edit) = match edit {
        [Token::Keep, Token::Ordinal(n), after @ ..] => (old.items.get(..*n as usize)?, after),
        [Token::Keep, after @ ..] => (&old.items[..], after),
        _ => return None,
    };
    let mut items = front.to_vec();
    let (middle, rest) = match edit {
        [middle @ .., Token::Rest, Token::Ordinal(n)] => (middle, old.items.get(*n as usize..)?),
        middle => (middle, &[][..]),
    };
    match old.is_text() {
        true => items.extend(middle.chunks(1)),
        false => items.extend(split(middle)?),
    }
    items.extend(rest);
    let is_whole = !items.is_empty() && items.iter().all(|item| !item.is_empty());
    is_whole.then(|| old.with(&items))
}
