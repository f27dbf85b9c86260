//! What holds of the small model's vocabulary whatever the program, the value
//! or the ids.

use std::sync::Arc;

use cwm_tokenizer::nano::{Codec, CodecError, Offsets, Token, Vocabulary};
use cwm_trace::live::{Mark, Piece, Told};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// A program with names of every sort: its own functions, classes, attributes
/// and parameters, builtins, methods, and builtin names that it binds itself.
const SOURCE: &str = "\
import math
class Acc:
    def __init__(self, total, items=()):
        self.total = total
        self.items = list(items)
def f(text, key=None, *, sum=0):
    lines = text.strip().split('\\n')
    for index, line in enumerate(lines):
        sum += len(line)
    return sorted(lines, key=key), f'{sum:>5} {math.sqrt(sum)!r}'
acc = Acc(1)
";

fn codec(offsets: Offsets) -> Codec {
    Codec::new(Arc::new(Vocabulary::default()), SOURCE, offsets).expect("a small program")
}

fn offsets() -> impl Strategy<Value = Offsets> {
    (0..=100_u32, any::<u32>()).prop_map(|(line, symbol)| Offsets { line, symbol })
}

/// Pieces of Python, whole and broken.
fn python() -> impl Strategy<Value = String> {
    let piece = select(
        &[
            "def f(x):\n",
            "class A:\n",
            "    ",
            "\t",
            "for i in x:",
            "\n",
            "\n",
            " ",
            "x",
            "y1",
            "self.total",
            "=",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            ",",
            ":",
            ".",
            "#",
            "\\",
            "\\\n",
            "'",
            "\"",
            "'''",
            "\"\"\"",
            "f'",
            "f\"{x!r:>3}\"",
            "{{",
            "r'\\",
            "b'",
            "0x1F",
            "1_0",
            "0b",
            "1e",
            "1e-5",
            ".5",
            "1.2.3",
            "7j",
            "\\x41",
            "\\u20",
            "\\N{DASH}",
            "é",
            "😀",
            "\u{0}",
            "\r\n",
            "key=",
            "print",
            "append",
            "lambda",
            "@",
            "->",
            "$",
            "…",
        ][..],
    );
    let piece = prop_oneof![9 => piece.prop_map(str::to_owned), 1 => any::<String>()];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// A string as Python's `repr` writes it.
fn repr_of_str(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// The `repr` of an object that [`SOURCE`] might make, nested.
/// Containers that have items in common.
fn items() -> impl Strategy<Value = String> {
    let item = prop_oneof![
        4 => select(&["1", "23", "'ab'", "[4, 5]"][..]).prop_map(str::to_owned),
        1 => repr(),
    ];
    let kind = select(
        &[
            ("[", "]"),
            ("(", ")"),
            ("{", "}"),
            ("Acc(", ")"),
            ("'", "'"),
        ][..],
    );
    (kind, vec(item, 0..6)).prop_map(|((open, close), items)| match open {
        "'" => repr_of_str(&items.concat()),
        "(" if items.len() == 1 => format!("({},)", items[0]),
        _ => format!("{open}{}{close}", items.join(", ")),
    })
}

fn repr() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        "-?[1-9][0-9]{0,60}",
        any::<i16>().prop_map(|n| format!("{}.{}", n / 8, (n % 8).unsigned_abs() * 125)),
        select(
            &[
                "1e-05",
                "-2.5e+300",
                "inf",
                "-inf",
                "nan",
                "-0.0",
                "(1+2j)",
                "1j"
            ][..]
        )
        .prop_map(str::to_owned),
        select(
            &[
                "None",
                "True",
                "False",
                "...",
                "set()",
                "<class 'int'>",
                "<function f>"
            ][..]
        )
        .prop_map(str::to_owned),
        "[ -~]{0,12}".prop_map(|text| repr_of_str(&text)),
        "[a-z'\"\\\\\n\r\té漢😀\u{0}\u{7}\u{7f}]{0,8}".prop_map(|text| repr_of_str(&text)),
        "[a-z ]{0,6}".prop_map(|text| format!("b'{text}'")),
        Just("ValueError('odd')".to_owned()),
        Just("range(0, 5)".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let list = || vec(inner.clone(), 0..4);
        prop_oneof![
            list().prop_map(|items| format!("[{}]", items.join(", "))),
            list().prop_map(|items| match &items[..] {
                [one] => format!("({one},)"),
                _ => format!("({})", items.join(", ")),
            }),
            vec(inner.clone(), 1..4).prop_map(|items| format!("{{{}}}", items.join(", "))),
            vec((inner.clone(), inner.clone()), 0..4).prop_map(|pairs| {
                let pairs: Vec<_> = pairs.iter().map(|(k, v)| format!("{k}: {v}")).collect();
                format!("{{{}}}", pairs.join(", "))
            }),
            (inner.clone(), list()).prop_map(|(total, items)| {
                format!("Acc(total={total}, items=[{}])", items.join(", "))
            }),
            list().prop_map(|items| format!("deque([{}], maxlen=9)", items.join(", "))),
        ]
    })
}

fn encoded(codec: &Codec, text: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    codec.encode_value(text, &mut ids);
    ids
}

fn is_raw(codec: &Codec, ids: &[u32]) -> bool {
    ids.first()
        .is_some_and(|&id| codec.vocabulary().token(id) == Some(Token::Raw))
}

/// Every id stands for something that is not padding.
fn all_stand_for_something(vocabulary: &Vocabulary, ids: &[u32]) -> bool {
    ids.iter().all(|&id| {
        vocabulary
            .token(id)
            .is_some_and(|token| token != Token::Pad)
    })
}

proptest! {
    #[test]
    fn any_text_comes_back(text in prop_oneof![any::<String>(), python()], offsets in offsets()) {
        let codec = codec(offsets);
        let ids = encoded(&codec, &text);
        prop_assert!(all_stand_for_something(codec.vocabulary(), &ids));
        prop_assert_eq!(codec.decode_value(&ids), Some(text));
    }

    /// Values that Python writes come back, and not letter by letter: their
    /// numbers, names and brackets have tokens of their own.
    #[test]
    fn a_repr_comes_back_in_tokens(text in repr(), offsets in offsets()) {
        let codec = codec(offsets);
        let ids = encoded(&codec, &text);
        prop_assert!(!is_raw(&codec, &ids), "{text} is raw");
        prop_assert!(all_stand_for_something(codec.vocabulary(), &ids));
        prop_assert_eq!(codec.decode_value(&ids), Some(text));
    }

    /// A value that was cut by the recorder comes back too.
    #[test]
    fn a_cut_repr_comes_back(text in repr(), cut in any::<proptest::sample::Index>()) {
        let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
        let text = format!("{}...", &text[..places[cut.index(places.len())]]);
        let codec = codec(Offsets::default());
        prop_assert_eq!(codec.decode_value(&encoded(&codec, &text)), Some(text));
    }

    /// Ids that a model might produce are a value or none, and a value's text
    /// has ids of its own.
    /// However a value is told, it comes back.
    #[test]
    fn a_told_value_comes_back(
        before in proptest::option::of(items()),
        now in items(),
        other in repr(),
        offsets in offsets(),
    ) {
        let codec = codec(offsets);
        let told = Told {
            text: now.into(),
            before: before.map(Into::into),
            shown: vec![("lines".into(), other.into())],
        };
        let mut ids = Vec::new();
        codec.encode(&Piece::Told(Box::new(told.clone())), &mut ids).expect("no name");
        let back = codec.decode_told(&ids, told.before.as_deref(), &told.shown);
        prop_assert_eq!(back.as_deref(), Some(&*told.text));
        let mut whole = Vec::new();
        codec.encode_value(&told.text, &mut whole);
        prop_assert!(ids.len() <= whole.len());
    }

    /// Whatever a model writes is a value, or is seen not to be one.
    #[test]
    fn any_ids_can_be_told(
        ids in vec(0..1000_u32, 0..12),
        before in proptest::option::of(items()),
        shown in repr(),
    ) {
        let shown = [("lines".into(), shown.into())];
        let _ = codec(Offsets::default()).decode_told(&ids, before.as_deref(), &shown);
    }

    #[test]
    fn any_ids_can_be_asked_for(
        ids in vec(prop_oneof![9 => 0..900_u32, 1 => any::<u32>()], 0..24),
        offsets in offsets(),
    ) {
        let codec = codec(offsets);
        for &id in &ids {
            codec.token(id);
            codec.name(id);
            codec.vocabulary().name(id);
        }
        if let Some(text) = codec.decode_value(&ids) {
            prop_assert_eq!(codec.decode_value(&encoded(&codec, &text)), Some(text));
        }
    }

    #[test]
    fn any_text_can_be_read_as_a_program(
        source in python(),
        line in prop_oneof![9 => 0..128_u32, 1 => any::<u32>()],
        symbol in any::<u32>(),
    ) {
        let vocabulary = Arc::new(Vocabulary::default());
        let codec = Codec::new(vocabulary.clone(), &source, Offsets { line, symbol });
        let Ok(codec) = codec else { return Ok(()) };
        prop_assert!(all_stand_for_something(&vocabulary, codec.source()));
        let names = codec.name_ids();
        prop_assert!(all_stand_for_something(&vocabulary, &names));
        for id in names {
            // Not always the same id: a name behind a dot may be a symbol and
            // yet a word as a variable.
            let name = codec.name(id).expect("a name");
            let mut ids = Vec::new();
            prop_assert_eq!(codec.encode(&Piece::Name(name.clone()), &mut ids), Ok(()));
            prop_assert_eq!(ids.iter().map(|&id| codec.name(id)).collect::<Vec<_>>(), [Some(name)]);
        }
    }

    /// Training shifts ids that were encoded without offsets; that is the
    /// same as encoding with them.
    #[test]
    fn shifted_ids_are_those_of_a_shifted_program(offsets in offsets(), text in repr()) {
        let (plain, shifted) = (codec(Offsets::default()), codec(offsets));
        let shift = |ids: &[u32]| -> Vec<u32> {
            ids.iter().map(|&id| offsets.shift(plain.vocabulary(), id)).collect()
        };
        prop_assert_eq!(shift(plain.source()), shifted.source());
        prop_assert_eq!(shift(&encoded(&plain, &text)), encoded(&shifted, &text));
        prop_assert_eq!(shift(&plain.name_ids()), shifted.name_ids());
    }

    #[test]
    fn pieces_have_ids_or_reasons(line in any::<u32>(), ordinal in any::<u32>(), offsets in offsets()) {
        let codec = codec(offsets);
        let mut ids = Vec::new();
        for mark in [Mark::Call, Mark::Back, Mark::End] {
            prop_assert!(codec.encode(&Piece::Mark(mark), &mut ids).is_ok());
        }
        prop_assert!(codec.encode(&Piece::Ordinal(ordinal), &mut ids).is_ok());
        match codec.encode(&Piece::Line(line), &mut ids) {
            Ok(()) => prop_assert_eq!(ids.last().and_then(|&id| codec.token(id)), Some(Token::Line(line))),
            Err(error) => {
                prop_assert!(line.saturating_add(offsets.line) > Codec::MAX_LINES);
                let is_expected = matches!(error, CodecError::TooManyLines { .. });
                prop_assert!(is_expected);
            }
        }
        prop_assert!(all_stand_for_something(codec.vocabulary(), &ids));
    }
}

/// Line tokens count physical lines, strings that run over several included.
#[test]
fn line_tokens_are_those_of_the_file() {
    let source = "a = '''\\\nb\n'''\nc = 'd\\\ne'\nf'''\\\n{a}'''\ng = (1,\n     2)\nh = 3\n";
    let vocabulary = Arc::new(Vocabulary::default());
    let codec = Codec::new(vocabulary, source, Offsets::default()).expect("a small program");
    let lines: Vec<u32> = codec
        .source()
        .iter()
        .filter_map(|&id| match codec.token(id) {
            Some(Token::Line(line)) => Some(line),
            _ => None,
        })
        .collect();
    assert_eq!(lines, [1, 4, 6, 8, 9, 10]);
}
