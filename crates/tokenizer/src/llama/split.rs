//! Cuts text into the pieces that byte-pair merging may not cross.
//!
//! Written by hand, it does what this pattern of Llama 3 does, its
//! alternatives tried from the first to the last at each place:
//!
//! ```text
//! (?i:'s|'t|'re|'ve|'m|'ll|'d)
//! [^\r\n\p{L}\p{N}]?\p{L}+
//! \p{N}{1,3}
//!  ?[^\s\p{L}\p{N}]+[\r\n]*
//! \s*[\r\n]+
//! \s+(?!\S)
//! \s+
//! ```

use super::unicode::{LETTERS, NUMBERS};

/// The pieces of a text, in order and without gaps.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = rest.split_at(piece_length(rest));
        rest = after;
        Some(piece)
    })
}

/// What the pattern tells characters apart by. The classes are disjoint: no
/// letter or number is white space.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    /// `\r` and `\n`.
    Newline,
    /// All other white space.
    Space,
    Other,
}

/// Length in bytes of the first piece of a text that is not empty.
fn piece_length(text: &str) -> usize {
    let (first, class) = first(text);
    if first == '\''
        && let Some(length) = contraction(text)
    {
        return length;
    }
    let second = first.len_utf8();
    match class {
        Class::Letter => letters_from(text, second),
        Class::Number => numbers(text),
        Class::Newline => white_space(text),
        Class::Space | Class::Other if class_at(text, second) == Some(Class::Letter) => {
            letters_from(text, second)
        }
        Class::Space if first == ' ' && class_at(text, second) == Some(Class::Other) => {
            others_from(text, second)
        }
        Class::Space => white_space(text),
        Class::Other => others_from(text, second),
    }
}

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)`; the long s is an s of another case.
fn contraction(text: &str) -> Option<usize> {
    let mut letters = text.chars().skip(1);
    let first = letters.next()?;
    match first {
        's' | 'S' | 'ſ' | 't' | 'T' | 'm' | 'M' | 'd' | 'D' => Some(1 + first.len_utf8()),
        'r' | 'R' | 'v' | 'V' => matches!(letters.next()?, 'e' | 'E').then_some(3),
        'l' | 'L' => matches!(letters.next()?, 'l' | 'L').then_some(3),
        _ => None,
    }
}

/// `\p{N}{1,3}`, where the first is a number.
fn numbers(text: &str) -> usize {
    let digits = text
        .chars()
        .take(3)
        .take_while(|&c| class_of(c) == Class::Number);
    digits.map(char::len_utf8).sum()
}

/// `\p{L}+` up to its end, from `start` on.
fn letters_from(text: &str, start: usize) -> usize {
    run(text, start, |class| class == Class::Letter)
}

/// `[^\s\p{L}\p{N}]+[\r\n]*` up to its end, from `start` on.
fn others_from(text: &str, start: usize) -> usize {
    let end = run(text, start, |class| class == Class::Other);
    run(text, end, |class| class == Class::Newline)
}

/// The last three alternatives, where white space comes first.
fn white_space(text: &str) -> usize {
    let end = run(text, 0, |class| {
        matches!(class, Class::Space | Class::Newline)
    });
    if let Some(newline) = text[..end].rfind(['\r', '\n']) {
        return newline + 1;
    }
    // Before other text the last space is left to it, unless it is the only
    // one.
    let last = text[..end].chars().next_back().map_or(0, char::len_utf8);
    if end == text.len() || end == last {
        end
    } else {
        end - last
    }
}

/// Where a run of characters that starts at `start` ends.
fn run(text: &str, start: usize, belongs: impl Fn(Class) -> bool) -> usize {
    let mut characters = text[start..].char_indices();
    let end = characters.find(|&(_, character)| !belongs(class_of(character)));
    end.map_or(text.len(), |(length, _)| start + length)
}

fn first(text: &str) -> (char, Class) {
    let first = text.chars().next().unwrap_or('\n');
    (first, class_of(first))
}

fn class_at(text: &str, place: usize) -> Option<Class> {
    text[place..].chars().next().map(class_of)
}

fn class_of(character: char) -> Class {
    match ASCII.get(character as usize) {
        Some(&class) => class,
        None if within(&LETTERS, character) => Class::Letter,
        None if character.is_whitespace() => Class::Space,
        None if within(&NUMBERS, character) => Class::Number,
        None => Class::Other,
    }
}

fn within(ranges: &[(char, char)], character: char) -> bool {
    let after = ranges.partition_point(|&(start, _)| start <= character);
    after
        .checked_sub(1)
        .is_some_and(|index| character <= ranges[index].1)
}

const ASCII: [Class; 128] = {
    let mut classes = [Class::Other; 128];
    let mut byte = 0;
    while byte < 128 {
        classes[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            b'\n' | b'\r' => Class::Newline,
            b'\t' | 0x0b | 0x0c | b' ' => Class::Space,
            _ => Class::Other,
        };
        byte += 1;
    }
    classes
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::pieces;

    const PATTERN: &str = concat!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    );

    fn by_pattern(text: &str) -> Vec<&str> {
        thread_local! {
            static REGEX: fancy_regex::Regex =
                fancy_regex::Regex::new(PATTERN).expect("the pattern of Llama 3");
        }
        REGEX.with(|regex| {
            regex
                .find_iter(text)
                .map(|found| found.expect("no limit is reached").as_str())
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn equals_the_pattern(text in "([ \t\r\n]|[a-zA-Z]|'|[0-9½٣]|[.,é漢ſK\u{301}\u{a0}\u{85}]|'[a-zA-Zſ]|\\PC){0,24}") {
            prop_assert_eq!(pieces(&text).collect::<Vec<_>>(), by_pattern(&text));
        }
    }

    /// Every character in three surroundings.
    #[test]
    fn knows_the_class_of_every_character() {
        let all: Vec<char> = ('\u{0}'..=char::MAX).collect();
        for block in all.chunks(4096) {
            let text: String = block
                .iter()
                .flat_map(|&c| [c, 'a', c, '1', ' ', c])
                .collect();
            assert_eq!(
                pieces(&text).collect::<Vec<_>>(),
                by_pattern(&text),
                "from {:?}",
                block[0]
            );
        }
    }
}
