//! Mistakes on purpose: one change to a program as people make them, so that its run is not what its text
//! suggests.

use super::super::block::Block;
use super::super::context::Context;

/// What stands there, and what is written by mistake. The first that applies at a place is taken.
const SLIPS: &[(&str, &[&str])] = &[
    (" <= ", &[" < "]),
    (" >= ", &[" > "]),
    (" < ", &[" <= ", " > "]),
    (" > ", &[" >= ", " < "]),
    (" == ", &[" != "]),
    (" != ", &[" == "]),
    (" + 1", &["", " + 2", " - 1"]),
    (" - 1", &["", " + 1"]),
    ("range(len(", &["range(1, len("]),
    ("range(1, ", &["range("]),
    (" // ", &[" / ", " % "]),
    (" % ", &[" // "]),
    (" and ", &[" or "]),
    (" or ", &[" and "]),
    (" += ", &[" -= ", " = "]),
    (" -= ", &[" += "]),
    (" + ", &[" - ", " * "]),
    (" - ", &[" + "]),
    (" * ", &[" + ", " ** "]),
    ("[0]", &["[1]"]),
    ("[-1]", &["[0]"]),
    ("[1:]", &["[1]", "[:1]"]),
    ("max(", &["min("]),
    ("min(", &["max("]),
    (".append(", &[".extend("]),
    ("sorted(", &["reversed(", "list("]),
    ("not ", &[""]),
    ("return ", &[""]),
    ("reverse=True", &["reverse=False"]),
    (", 0)", &[")"]),
    (".sort()", &[".sort"]),
];

/// Lines without slips: headers of functions, which calls have to fit, and of loops that could go on for ever.
const STAYING: [&str; 6] = ["def ", "class ", "while ", "@", "import ", "from "];

/// Makes one slip in the block, if there is a place for one. What it does then is not known: it may raise.
pub(crate) fn plant(block: &mut Block, context: &mut Context) {
    let definitions = block.definitions.len();
    let mut places = Vec::new();
    for (text, lines) in block.definitions.iter().chain(&block.body).enumerate() {
        for (slip, (right, _)) in SLIPS.iter().enumerate() {
            places.extend(lines.match_indices(right).filter_map(|(at, _)| {
                // `+ 1` stands in `+ 18`, too.
                let is_part = |c: char| c.is_ascii_alphanumeric() && right.ends_with('1');
                if lines[at + right.len()..].starts_with(is_part) {
                    return None;
                }
                let line = &lines[lines[..at].rfind('\n').map_or(0, |end| end + 1)..];
                let stays = STAYING
                    .iter()
                    .any(|start| line.trim_start().starts_with(start));
                (!stays && !is_in_text(&lines[..at])).then_some((text, slip, at))
            }));
        }
    }
    if places.is_empty() {
        return;
    }
    let (text, slip, at) = *context.rng.pick(&places);
    let (right, wrong) = SLIPS[slip];
    let wrong = *context.rng.pick(wrong);
    let line = match text.checked_sub(definitions) {
        None => &mut block.definitions[text],
        Some(text) => &mut block.body[text],
    };
    line.replace_range(at..at + right.len(), wrong);
    block.may_raise = true;
}

/// Whether a text literal is open behind `before`.
fn is_in_text(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default();
    let quotes = line.chars().filter(|c| matches!(c, '\'' | '"'));
    quotes.count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planted(line: &str) -> Vec<String> {
        let slips = (0..200).map(|index| {
            let mut block = Block {
                body: vec![line.to_owned()],
                ..Block::default()
            };
            plant(&mut block, &mut Context::new(1, index, 3));
            assert_eq!(block.may_raise, block.body[0] != line);
            block.body.remove(0)
        });
        let mut slips: Vec<String> = slips.collect();
        slips.sort();
        slips.dedup();
        slips
    }

    #[test]
    fn a_slip_is_one_of_those_that_fit() {
        assert_eq!(planted("x = a and b"), ["x = a or b"]);
        assert_eq!(planted("x = a + 18"), ["x = a * 18", "x = a - 18"]);
        assert_eq!(planted("if a < b:"), ["if a <= b:", "if a > b:"]);
        assert_eq!(planted("s.sort()"), ["s.sort"]);
        assert_eq!(planted("s.upper()"), ["s.upper()"]);
    }

    #[test]
    fn texts_and_headers_stay() {
        for line in ["x = ' + '", "def f(a=max(1)):", "while a < b:", "x = 1"] {
            assert_eq!(planted(line), [line]);
        }
    }
}
