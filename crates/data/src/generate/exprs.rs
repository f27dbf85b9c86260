//! Random expressions over given variables, used by idioms and by the statement grammar alike.
//!
//! One line of a program asks for one or two elementary operations: that is what a small model can
//! carry out without writing anything down.

use super::context::Context;
use super::literal::{constant, int as any_int, letter};
use super::rng::Rng;

fn pick<'a>(names: &[&'a str], rng: &mut Rng) -> &'a str {
    if names.is_empty() {
        "0"
    } else {
        names[rng.below(names.len())]
    }
}

/// A small non-negative number for comparisons and sums.
fn small(rng: &mut Rng) -> i64 {
    if rng.chance(0.75) {
        rng.range(1, 9)
    } else {
        any_int(rng).abs()
    }
}

/// An int expression over int variables.
pub(crate) fn int(names: &[&str], context: &mut Context) -> String {
    let x = pick(names, &mut context.rng);
    let rng = &mut context.rng;
    if names.len() > 1 && rng.chance(0.6) {
        let mut others: Vec<&str> = names.iter().copied().filter(|name| *name != x).collect();
        rng.shuffle(&mut others);
        let y = pick(&others, rng);
        return match rng.weighted(&[30, 22, 8, 6, 6, 6, 5, 5]) {
            0 => format!("{x} + {y}"),
            1 => format!("{x} - {y}"),
            2 => format!("{x} * {y}"),
            3 => format!("max({x}, {y})"),
            4 => format!("min({x}, {y})"),
            5 => format!("abs({x} - {y})"),
            6 => format!("({x} + {y}) {} {}", rng.pick(&["%", "//"]), constant(rng)),
            _ => format!("{x} + {y} {} {}", rng.pick(&["+", "-"]), small(rng)),
        };
    }
    match rng.weighted(&[26, 18, 16, 10, 9, 3, 3, 3, 2, 3, 3, 2]) {
        0 => format!("{x} + {}", small(rng)),
        1 => format!("{x} - {}", small(rng)),
        2 => format!("{x} * {}", rng.range(2, 4)),
        3 => format!("{x} % {}", constant(rng)),
        4 => format!("{x} // {}", constant(rng)),
        5 => format!("{x} * {x}"),
        6 => format!("{} - {x}", small(rng)),
        7 => format!("abs({x} - {})", small(rng)),
        8 => format!("-{x}"),
        9 => format!("{x} * 2 {} {}", rng.pick(&["+", "-"]), rng.range(1, 5)),
        10 => format!("({x} + {}) % {}", small(rng), constant(rng)),
        _ => format!("{}({x}, {})", rng.pick(&["max", "min"]), small(rng)),
    }
}

/// A condition on int variables.
pub(crate) fn condition(names: &[&str], context: &mut Context) -> String {
    let x = pick(names, &mut context.rng);
    let bound = threshold(context);
    let rng = &mut context.rng;
    let compare = ["<", ">", "<=", ">=", "==", "!="][rng.weighted(&[5, 5, 4, 4, 2, 2])];
    if names.len() > 1 && rng.chance(0.5) {
        let others: Vec<&str> = names.iter().copied().filter(|name| *name != x).collect();
        let y = pick(&others, rng);
        return match rng.below(6) {
            0 => format!("{x} % 2 == {y} % 2"),
            1 => format!("{x} {compare} {y} and {x} > {}", rng.range(0, 5)),
            _ => format!("{x} {compare} {y}"),
        };
    }
    match rng.weighted(&[34, 24, 10, 8, 6, 5, 5, 4]) {
        0 => format!("{x} {compare} {bound}"),
        1 => format!(
            "{x} % {0} == {1}",
            rng.pick(&[2, 2, 3, 3, 4, 5]),
            rng.pick(&[0, 0, 0, 1])
        ),
        2 => {
            let low = rng.range(0, 6);
            format!(
                "{low} {} {x} {} {}",
                le(rng),
                le(rng),
                low + rng.range(2, 12)
            )
        }
        3 => format!("{x} % 2 {} 0", rng.pick(&["==", "!="])),
        4 => format!("{x} < {} or {x} > {}", rng.range(0, 5), rng.range(6, 15)),
        5 => format!(
            "{x} > {} and {x} % {} == 0",
            rng.range(0, 6),
            rng.pick(&[2, 3])
        ),
        6 => {
            let mut items = [rng.range(0, 4), rng.range(5, 9), rng.range(10, 15)];
            rng.shuffle(&mut items);
            format!(
                "{x} {}in ({}, {}, {})",
                rng.pick(&["", "", "not "]),
                items[0],
                items[1],
                items[2]
            )
        }
        _ => format!("not {x} {} {}", rng.pick(&["%", ">"]), constant(rng)),
    }
}

/// A number to compare with: often one that occurs in the data, so that either outcome is likely.
fn threshold(context: &mut Context) -> i64 {
    let Context { rng, recall, .. } = context;
    if !recall.ints.is_empty() && rng.chance(0.6) {
        *rng.pick(&recall.ints)
    } else {
        small(rng)
    }
}

fn le(rng: &mut Rng) -> &'static str {
    if rng.chance(0.5) { "<" } else { "<=" }
}

/// A text made from the text variable `s`.
pub(crate) fn text(s: &str, context: &mut Context) -> String {
    let mark = *context.rng.pick(&["-", "!", "_", ".", "x", "a"]);
    let b = letter(&mut context.rng).to_string();
    let (mark, a, b) = (
        context.quoted(mark),
        context.letter_literal(),
        context.quoted(&b),
    );
    let rng = &mut context.rng;
    match rng.weighted(&[14, 10, 12, 12, 12, 8, 5, 12, 4, 3, 3, 3, 3]) {
        0 => format!("{s}.upper()"),
        1 => format!("{s}.lower()"),
        2 => format!("{s}[::-1]"),
        3 => format!("{s}[{}:]", rng.range(1, 3)),
        4 => format!("{s}[:{}]", rng.pick(&["1", "2", "3", "4", "-1", "-2"])),
        5 => format!("{s} + {mark}"),
        6 => format!("{mark} + {s}"),
        7 => format!("{s}.replace({a}, {b})"),
        8 => format!("{s} * 2"),
        9 => format!("{s}.capitalize()"),
        10 => format!("{s}.strip({a})"),
        11 => format!("{s}[::2]"),
        _ => format!("{s}.swapcase()"),
    }
}

/// A condition on the text variable `s`.
pub(crate) fn text_condition(s: &str, context: &mut Context) -> String {
    let a = context.letter_literal();
    let rng = &mut context.rng;
    match rng.weighted(&[20, 20, 10, 8, 6, 6, 4, 4, 5]) {
        0 => format!("{a} {}in {s}", rng.pick(&["", "", "not "])),
        1 => format!(
            "len({s}) {} {}",
            rng.pick(&[">", "<", ">=", "==", "<="]),
            rng.range(2, 6)
        ),
        2 => format!("{s}.startswith({a})"),
        3 => format!("{s}.endswith({a})"),
        4 => format!("len({s}) % 2 == {}", rng.range(0, 1)),
        5 => format!(
            "{s}.count({a}) {} {}",
            rng.pick(&[">", "==", "<"]),
            rng.range(1, 2)
        ),
        6 => format!("{s}.isalpha()"),
        7 => format!("{s} == {s}[::-1]"),
        _ => format!("{s}.isdigit()"),
    }
}

/// A text made from the variable `c`, which holds one character.
pub(crate) fn char_text(c: &str, context: &mut Context) -> String {
    let mark = *context.rng.pick(&["-", "*", "_", ".", "x"]);
    let mark = context.quoted(mark);
    let rng = &mut context.rng;
    match rng.weighted(&[10, 4, 8, 6, 4]) {
        0 => format!("{c}.upper()"),
        1 => format!("{c}.lower()"),
        2 => format!("{c} * 2"),
        3 => format!("{c} + {mark}"),
        _ => format!("{mark} + {c}"),
    }
}

/// A condition on the variable `c`, which holds one character.
pub(crate) fn char_condition(c: &str, context: &mut Context) -> String {
    let a = context.letter_literal();
    let vowels = context.quoted("aeiou");
    let half = context.quoted("m");
    let rng = &mut context.rng;
    match rng.weighted(&[18, 20, 6, 9, 8, 5, 5, 5, 4]) {
        0 => format!("{c} in {vowels}"),
        1 => format!("{c} == {a}"),
        2 => format!("{c} != {a}"),
        3 => format!("{c}.isdigit()"),
        4 => format!("{c}.isalpha()"),
        5 => format!("{c}.isupper()"),
        6 => format!("{c} not in {vowels}"),
        7 => format!("{c} {} {half}", rng.pick(&["<", ">"])),
        _ => format!("{c}.islower()"),
    }
}

/// A list made from the variable `xs`, a list of ints.
pub(crate) fn list(xs: &str, context: &mut Context) -> String {
    let x = context.name("x");
    let inner = int(&[&x], context);
    let test = condition(&[&x], context);
    let rng = &mut context.rng;
    match rng.weighted(&[14, 10, 8, 8, 6, 6, 18, 16, 4, 3, 3]) {
        0 => format!("sorted({xs})"),
        1 => format!("{xs}[::-1]"),
        2 => format!("{xs}[1:]"),
        3 => format!("{xs}[:{}]", rng.pick(&["2", "3", "-1"])),
        4 => format!("{xs} + [{}]", small(rng)),
        5 => format!("[{}] + {xs}", small(rng)),
        6 => format!("[{inner} for {x} in {xs}]"),
        7 => format!("[{x} for {x} in {xs} if {test}]"),
        8 => format!("sorted({xs}, reverse=True)"),
        9 => format!("{xs}[::2]"),
        _ => format!("list(reversed({xs}))"),
    }
}

/// An int made from the variable `xs`, a non-empty list of ints.
pub(crate) fn reduce(xs: &str, context: &mut Context) -> String {
    let rng = &mut context.rng;
    match rng.weighted(&[16, 10, 10, 10, 10, 8, 6, 3, 3]) {
        0 => format!("len({xs})"),
        1 => format!("sum({xs})"),
        2 => format!("max({xs})"),
        3 => format!("min({xs})"),
        4 => format!("{xs}[0]"),
        5 => format!("{xs}[-1]"),
        6 => format!("{xs}.count({})", small(rng)),
        7 => format!("{xs}[0] + {xs}[-1]"),
        _ => format!("max({xs}) - min({xs})"),
    }
}

/// An int made from the text variable `s`.
pub(crate) fn measure(s: &str, context: &mut Context) -> String {
    let a = context.letter_literal();
    let rng = &mut context.rng;
    match rng.weighted(&[20, 12, 8, 4, 3]) {
        0 => format!("len({s})"),
        1 => format!("{s}.count({a})"),
        2 => format!("{s}.find({a})"),
        3 => format!("len({s}) * {}", rng.range(2, 3)),
        _ => format!("len(set({s}))"),
    }
}
