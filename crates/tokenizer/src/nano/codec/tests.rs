//! The codec at work on one small program.

use super::*;
use cwm_trace::live::Mark;

const SOURCE: &str = "\
class Acc:
    def __init__(self, total):
        self.count = total

def f(text, key=None):
    # a comment
    items = text.split(',')
    return [f\"{x!r}={len(x)}\" for x in items]
";

fn codec(offsets: Offsets) -> Codec {
    Codec::new(Arc::new(Vocabulary::default()), SOURCE, offsets).unwrap()
}

fn shown(codec: &Codec, ids: &[u32]) -> String {
    ids.iter()
        .map(|&i| codec.vocabulary().name(i))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn source_is_lines_depths_and_symbols() {
    let c = codec(Offsets::default());
    assert_eq!(
        shown(&c, c.source()),
        "<begin> <source> L1 D0 w:class $0 o:: \
         L2 D1 w:def w:__init__ o:( w:self #1 $1 o:) o:: \
         L3 D2 w:self o:. $2 o:= $1 \
         L5 D0 w:def $3 o:( $4 #1 $5 o:= w:None o:) o:: \
         L7 D1 $6 o:= $4 o:. w:split o:( q:' c:, q:' o:) \
         L8 D1 w:return o:[ w:f q:' o:{ $7 c:! c:r o:} c:= o:{ w:len o:( $7 o:) o:} q:' \
         w:for $7 w:in $6 o:]"
    );
}

#[test]
fn values_come_back_unchanged() {
    for offsets in [
        Offsets::default(),
        Offsets {
            line: 9,
            symbol: 93,
        },
    ] {
        let c = codec(offsets);
        for text in [
            "1203",
            "-7",
            "[1, -20, 300]",
            "3.14",
            "1e-05",
            "-0.0",
            "inf",
            "(1,)",
            "()",
            "{'a': [1, 2], 'b': {}}",
            "{1, 2}",
            "set()",
            "\"it's\"",
            "'it\\'s \"x\"'",
            "'tab\\t nl\\n back\\\\ bell\\x07'",
            "'é漢🙂'",
            "b'ab'",
            "Acc(count=3)",
            "[Acc(count=3), None, True]",
            "KeyError('x')",
            "<function f>",
            "<generator object f>",
            "<class 'int'>",
            "<weird  thing at all>",
            "unterminated 'str...",
            "range(0, 5)",
            "deque([1, 2], maxlen=3)",
            "1j",
            "",
            "12 34",
            "'\\u200b'",
            "a\nb",
            "bell \u{7} and \\x07",
        ] {
            let mut ids = Vec::new();
            c.encode_value(text, &mut ids);
            assert_eq!(c.decode_value(&ids).as_deref(), Some(text));
        }
    }
}

#[test]
fn values_are_told_in_the_shortest_way() {
    let c = codec(Offsets::default());
    for (before, text, same, expected) in [
        (None, "[4, 1, 6]", None, "o:[ d:4 #1 d:1 #2 d:6 o:]"),
        (Some("[4, 1]"), "[4, 1, 6]", None, "<keep> d:6"),
        (Some("[4, 1]"), "[4, 1, 6, 7]", None, "<keep> d:6 #3 d:7"),
        (Some("[4, 1, 6]"), "[4, 1]", None, "<keep> #2"),
        (Some("[4, 1, 6]"), "[1, 6]", None, "<keep> #0 <rest> #1"),
        (
            Some("[4, 1, 6, 8]"),
            "[4, 2, 6, 8]",
            None,
            "<keep> #1 d:2 <rest> #2",
        ),
        (
            Some("[44, 15, 60]"),
            "[7, 44, 15, 60]",
            None,
            "<keep> #0 d:7 <rest> #0",
        ),
        (Some("[4]"), "[]", None, "o:[ o:]"),
        (Some("'abc'"), "'abcd'", None, "<keep> c:d"),
        (Some("'abcdef'"), "'abcd'", None, "<keep> #4"),
        (
            Some("{'a': 1}"),
            "{'a': 1, 'b': 2}",
            None,
            "<keep> q:' c:b q:' o:: d:2",
        ),
        (Some("(1, 22)"), "(1,)", None, "<keep> #1"),
        (
            Some("Acc(count=3, total=[1])"),
            "Acc(count=3, total=[1, 2])",
            None,
            "<keep> #1 $1 o:= o:[ d:1 #1 d:2 o:]",
        ),
        (
            Some("[4, 1]"),
            "{4, 1, 6}",
            None,
            "o:{ d:4 #1 d:1 #2 d:6 o:}",
        ),
        (None, "[4, 1, 6]", Some("items"), "<same> $6"),
        (None, "7", Some("items"), "d:7"),
    ] {
        let told = Told {
            text: text.into(),
            before: before.map(Into::into),
            shown: same
                .iter()
                .map(|&name| (name.into(), text.into()))
                .collect(),
        };
        let mut ids = Vec::new();
        c.encode(&Piece::Told(Box::new(told.clone())), &mut ids)
            .unwrap();
        assert_eq!(shown(&c, &ids), expected);
        let back = c.decode_told(&ids, before, &told.shown);
        assert_eq!(back.as_deref(), Some(text));
    }
}

#[test]
fn steps_are_spaced_for_people() {
    let c = codec(Offsets::default());
    for step in [
        "7 % 5 = 2",
        "-7 // -2 = 3",
        "'a' + 'b' = 'ab'",
        "[-1] = 3",
        "[1:3] = [4, -5]",
        "[::-1] = 'ba'",
        ".split(',') = ['a', 'b']",
        "len = 4",
        "max(3, -7) = 3",
        "3 is not None = True",
        "not True = False",
        "'a' in = False",
        "+ = {'a': 1}",
        ".count = Acc(count=3, total={'x': [1]})",
        "1.5 >= 2 = False",
    ] {
        let mut ids = Vec::new();
        c.encode(&Piece::Step(step.into()), &mut ids).unwrap();
        assert_eq!(c.decode_step(&ids).as_deref(), Some(step));
    }
}

#[test]
fn commas_in_brackets_are_numbered() {
    let c = codec(Offsets::default());
    for (text, expected) in [
        ("[[7, 8], 9]", "o:[ o:[ d:7 #1 d:8 o:] #1 d:9 o:]"),
        ("(1,)", "o:( d:1 o:, o:)"),
        ("{1: 2, 3: 4}", "o:{ d:1 o:: d:2 #1 d:3 o:: d:4 o:}"),
        ("'a,b'", "q:' c:a c:, c:b q:'"),
    ] {
        let mut ids = Vec::new();
        c.encode_value(text, &mut ids);
        assert_eq!(shown(&c, &ids), expected);
    }
}

fn focus(text: &str, values: &[(&str, &str)], definitions: &[(&str, &[u32])]) -> String {
    focus_at(text, values, definitions, None)
}

fn focus_at(
    text: &str,
    values: &[(&str, &str)],
    definitions: &[(&str, &[u32])],
    consumed: Option<u32>,
) -> String {
    let c = codec(Offsets::default());
    let values = values.iter().map(|&(n, v)| (n.into(), v.into()));
    let definitions = definitions.iter().map(|&(n, l)| (n.into(), l.to_vec()));
    let focus = Focus {
        text: text.into(),
        values: values.collect(),
        definitions: definitions.collect(),
        consumed,
        next: vec![7, 3],
    };
    let mut ids = Vec::new();
    c.encode(&Piece::Focus(Box::new(focus)), &mut ids).unwrap();
    shown(&c, &ids)
}

#[test]
fn a_focus_has_each_value_behind_its_name() {
    assert_eq!(
        focus(
            "items = text.split(key)",
            &[("text", "'ab'")],
            &[("split", &[2])]
        ),
        "$6 o:= $4 q:' c:a c:b q:' <item> o:. w:split L2 <item> o:( $5 o:) <next> L7 L3"
    );
    // Only once, and where the name is a variable.
    assert_eq!(
        focus("f(text, key=key + key)", &[("key", "5")], &[("f", &[5])]),
        "$3 L5 <item> o:( $4 #1 w:key o:= $5 d:5 <item> o:+ $5 o:) <next> L7 L3"
    );
}

#[test]
fn characters_are_numbered_where_they_are_indexed() {
    let expected = "$4 q:' c:a #1 c:b q:' <item> o:[ d:0 o:] <next> L7 L3";
    assert_eq!(focus("text[0]", &[("text", "'ab'")], &[]), expected);
    let plain = focus("text + ''", &[("text", "'ab'")], &[]);
    assert!(!plain.contains('#'), "{plain}");
}

#[test]
fn a_loop_points_at_its_next_item() {
    for (consumed, value, expected) in [
        (0, "[7, 8]", "o:[ <next> d:7 #1 d:8 o:]"),
        (1, "[7, 8]", "o:[ d:7 #1 <next> d:8 o:]"),
        (2, "[7, 8]", "o:[ d:7 #1 d:8 <next> o:]"),
        (3, "[7, 8]", "o:[ d:7 #1 d:8 o:]"),
        (0, "()", "o:( <next> o:)"),
        (1, "(5,)", "o:( d:5 o:, <next> o:)"),
        (
            1,
            "[[1, 2], [3]]",
            "o:[ o:[ d:1 #1 d:2 o:] #1 <next> o:[ d:3 o:] o:]",
        ),
        (
            1,
            "{'a': 1, 'b': 2}",
            "o:{ q:' c:a q:' o:: d:1 #1 <next> q:' c:b q:' o:: d:2 o:}",
        ),
        (1, "'ab'", "q:' c:a <next> c:b q:'"),
        (2, "'ab'", "q:' c:a c:b <next> q:'"),
        (0, "12", "d:2 d:1"),
    ] {
        let found = focus_at("for x in text:", &[("text", value)], &[], Some(consumed));
        let expected = format!("w:for $7 w:in $4 {expected} <item> o:: <next> L7 L3");
        assert_eq!(found, expected);
    }
}

#[test]
fn digits_stand_lowest_first() {
    let c = codec(Offsets::default());
    let mut ids = Vec::new();
    c.encode_value("120", &mut ids);
    assert_eq!(shown(&c, &ids), "d:0 d:2 d:1");
    ids.clear();
    c.encode_value("1.25", &mut ids);
    assert_eq!(shown(&c, &ids), "d:1 n:. d:2 d:5");
}

#[test]
fn pieces_and_names() {
    let c = codec(Offsets { line: 3, symbol: 5 });
    let mut ids = Vec::new();
    for piece in [
        Piece::Mark(Mark::State),
        Piece::Line(7),
        Piece::Ordinal(7),
        Piece::Ordinal(123),
        Piece::Name("items".into()),
    ] {
        c.encode(&piece, &mut ids).unwrap();
    }
    assert_eq!(shown(&c, &ids), "<state> L10 #7 #1 #23 $11");
    assert_eq!(c.token(ids[1]), Some(Token::Line(7)));
    assert_eq!(c.name(ids[5]).as_deref(), Some("items"));
    let missing = c.encode(&Piece::Name("nothing".into()), &mut ids);
    assert_eq!(missing, Err(CodecError::UnknownName("nothing".into())));
    let names: Vec<_> = c.name_ids().iter().filter_map(|&i| c.name(i)).collect();
    assert!(names.iter().any(|n| &**n == "self"), "{names:?}");
}

#[test]
fn an_attribute_is_no_variable() {
    // `x.append` in a tuple of targets, and cut off from its object.
    for source in ["x.append, y = 1, 2\n", ".append,def f(x):\n"] {
        let v = Arc::new(Vocabulary::default());
        let c = Codec::new(v, source, Offsets::default()).unwrap();
        for id in c.name_ids() {
            let name = c.name(id).unwrap();
            assert_ne!(&*name, "append", "{source}");
            c.encode(&Piece::Name(name), &mut Vec::new()).unwrap();
        }
    }
}

#[test]
fn too_large_programs_are_refused() {
    let v = Arc::new(Vocabulary::default());
    let long = "x = 1\n".repeat(200);
    let error = Codec::new(v.clone(), &long, Offsets::default()).unwrap_err();
    assert!(matches!(error, CodecError::TooManyLines { lines: 200, .. }));
    let names: String = (0..100).map(|i| format!("v{i} = 1;")).collect();
    let error = Codec::new(v, &names, Offsets::default()).unwrap_err();
    assert!(matches!(error, CodecError::TooManyNames { names: 100, .. }));
}
