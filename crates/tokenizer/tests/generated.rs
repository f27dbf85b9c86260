//! `src/llama/unicode.rs` is made from the tables of `regex-syntax`, which the
//! original tokenizer uses too. Set `CWM_REGENERATE=1` to write it anew.

use std::fmt::Write as _;

use regex_syntax::hir::{Class, HirKind};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/llama/unicode.rs");

#[test]
fn unicode_tables_are_up_to_date() {
    let mut expected = String::from(
        "//! Unicode's letters and numbers. Made by `tests/generated.rs`; do not edit.\n",
    );
    push_table(
        &mut expected,
        "LETTERS",
        "Ranges of the general category L",
        r"\p{L}",
    );
    push_table(
        &mut expected,
        "NUMBERS",
        "Ranges of the general category N",
        r"\p{N}",
    );
    if std::env::var_os("CWM_REGENERATE").is_some() {
        std::fs::write(FILE, &expected).expect("the file can be written");
    }
    let actual = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        actual == expected,
        "{FILE} is out of date: run this test with CWM_REGENERATE=1"
    );
}

fn push_table(out: &mut String, name: &str, meaning: &str, pattern: &str) {
    let hir = regex_syntax::parse(pattern).expect("a pattern");
    let HirKind::Class(Class::Unicode(class)) = hir.kind() else {
        panic!("not a class")
    };
    let count = class.ranges().len();
    writeln!(out, "\n/// {meaning}, both ends included.").expect("memory");
    writeln!(out, "#[rustfmt::skip]").expect("memory");
    writeln!(out, "pub(super) static {name}: [(char, char); {count}] = [").expect("memory");
    for row in class.ranges().chunks(3) {
        out.push_str("   ");
        for range in row {
            let (start, end) = (u32::from(range.start()), u32::from(range.end()));
            write!(out, " ('\\u{{{start:x}}}', '\\u{{{end:x}}}'),").expect("memory");
        }
        out.push('\n');
    }
    out.push_str("];\n");
}
