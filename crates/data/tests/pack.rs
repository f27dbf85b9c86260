//! What the targets of windows are.

use std::sync::Arc;

use cwm_data::pack::{Kind, PackedProgram, PackedRow};
use cwm_tokenizer::nano::{Offsets, Vocabulary};
use cwm_trace::live::{Workings, parse};

const RUN: &str = r#"<|live|>1
   1| def g(x):
   2|     return x + 1
   3| # used below
   4| def f(a):
   5|     b = g(a)
   6|     del a
   7|     raise b
<|call|>4 0 f {"a":"3"}
<|line|>5 {}
<|call|>1 1 g {"x":"3"}
<|line|>2 {}
<|return|>2 {} "4"
<|line|>6 {"b":"4"}
<|line|>7 {"a":null}
<|exception|>7 "TypeError()"
<|unwind|>7 {}
<|end|>
"#;

fn program() -> (PackedProgram, Arc<Vocabulary>) {
    let vocabulary = Arc::new(Vocabulary::default());
    let parsed = parse(RUN);
    assert!(parsed.broken.is_none(), "{:?}", parsed.broken);
    // A working before the return of `g`, which is event 4.
    let workings = Workings::from([(4, vec!["3 + 1 = 4".into()])]);
    let packed = PackedProgram::new(&parsed.document, &workings, &vocabulary);
    (packed.expect("it fits the vocabulary"), vocabulary)
}

fn row() -> (PackedRow, Arc<Vocabulary>) {
    let (program, vocabulary) = program();
    let row = program.row(0..program.windows(), Offsets::default(), &vocabulary);
    (row, vocabulary)
}

#[test]
fn targets_are_told_apart() {
    let (row, vocabulary) = row();
    let of = |kind: Kind| {
        let targets = row.predicted.iter().zip(&row.kinds);
        let targets = targets.filter(|(_, found)| **found == kind);
        let names = targets.map(|(&at, _)| vocabulary.name(row.ids[at as usize]));
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        of(Kind::Action),
        "N0 N0 <return> <call> L1 N0 N0 <exception> <unwind>",
        "windows stand in the order in which they were done"
    );
    assert_eq!(of(Kind::Working), "<work> d:3 o:+ d:1 o:= d:4 <item>");
    assert_eq!(
        of(Kind::State),
        "$1 d:3 <item> <end> $4 d:4 <item> <delete> $3"
    );
    assert_eq!(of(Kind::Output), "d:4 <item> w:TypeError o:( o:) <item>");
    assert_eq!(row.kinds.len(), row.predicted.len());
}

#[test]
fn a_frame_ends_where_it_is_known() {
    let (row, vocabulary) = row();
    let last = |end: u32| vocabulary.name(row.ids[row.predicted[end as usize - 1] as usize]);
    let ends: Vec<String> = row.frames.iter().map(|frame| last(frame.end)).collect();
    let mut sorted = ends.clone();
    sorted.sort();
    assert_eq!(
        sorted,
        [
            "<end>", "<item>", "<item>", "<unwind>", "N0", "N0", "N0", "N0"
        ]
    );
    assert!(
        row.frames
            .windows(2)
            .all(|pair| pair[0].end <= pair[1].start)
    );
}

#[test]
fn windows_that_do_not_fit_are_left_out_and_break_no_row() {
    let (program, _) = program();
    let lengths: Vec<usize> = program.window_tokens().collect();
    let longest = lengths.iter().max().copied().expect("windows");
    let mut thin = program.clone();
    let thinned = thin.thin(program.source_tokens() + longest - 1, usize::MAX);
    assert_eq!((thinned.too_long, thinned.surplus), (1, 0));
    assert_eq!(thin.windows(), program.windows() - 1);
    let mut thin = program.clone();
    let thinned = thin.thin(program.source_tokens() + longest, 1);
    assert_eq!(thinned.surplus, program.windows() - thin.windows());
    assert!(thinned.surplus > 0);
}

#[test]
fn windows_may_be_longer_than_16_bits_count() {
    let digits = 70_000;
    let long = RUN.replace("\"4\"", &format!("\"{}\"", "7".repeat(digits)));
    let parsed = parse(&long);
    assert!(parsed.broken.is_none(), "{:?}", parsed.broken);
    let vocabulary = Arc::new(Vocabulary::default());
    let program = PackedProgram::new(&parsed.document, &Workings::default(), &vocabulary);
    let program = program.expect("it fits the vocabulary");
    let row = program.row(0..program.windows(), Offsets::default(), &vocabulary);
    assert!(program.window_tokens().any(|tokens| tokens > digits));
    assert!(row.predicted.is_sorted_by(|a, b| a < b));
    assert!(row.frames.iter().any(|frame| frame.len() > digits));
    assert_eq!(row.kinds.len(), row.predicted.len());
}
