//! Texts of runs in rows: every part of a run says what the run says, wherever it is taken up.

use std::collections::BTreeMap;
use std::sync::Arc;

use cwm_tokenizer::llama::{Llama, Markup};
use cwm_trace::cwm::{self, Frame, Locals};
use cwm_trace::nd::{self, Action, Exit, Run, Stop, Walk};
use cwm_train::packed::{Documents, Packed, PackedStats, Piece};
use cwm_train::sources::texts::Texts;
use cwm_train::{Dataset, Example};

fn locals(pairs: &[(&str, i32)]) -> Locals {
    let pairs = pairs
        .iter()
        .map(|(name, value)| ((*name).into(), value.to_string().into()));
    pairs.collect()
}

/// A loop that calls a function each time, and an exception at the end.
fn frames() -> Vec<Frame> {
    let line = |pairs: &[(&str, i32)], src: &str| Frame::Line {
        locals: locals(pairs),
        src: src.into(),
    };
    let mut frames = vec![
        Frame::Call {
            locals: locals(&[("n", 9)]),
            src: "def f(n):\n".into(),
        },
        line(&[("n", 9)], "    s = 0\n"),
    ];
    for i in 0..9 {
        frames.extend([
            line(&[("n", 9), ("s", i), ("i", i)], "    s = g(s)\n"),
            Frame::Call {
                locals: locals(&[("x", i)]),
                src: "def g(x):\n".into(),
            },
            line(&[("x", i)], "    return x + 1\n"),
            Frame::Return {
                src: "    return x + 1\n".into(),
                value: (i + 1).to_string().into(),
            },
        ]);
    }
    frames.push(line(&[("n", 9), ("s", 9), ("i", 8)], "    return 1 / 0\n"));
    frames.push(Frame::Exception {
        src: "    return 1 / 0\n".into(),
        value: "ZeroDivisionError('division by zero')".into(),
    });
    frames.push(Frame::Return {
        src: "    return 1 / 0\n".into(),
        value: "None".into(),
    });
    frames
}

const CONTEXT: &str = "def g(x):\n    return x + 1\n\ndef f(n):  # << START_OF_TRACE\n";

fn packed(kind: &str, text: &str, row_tokens: usize, weights: &[(&str, f32)]) -> (Packed, Texts) {
    let weights = weights
        .iter()
        .map(|(name, weight)| ((*name).to_owned(), *weight))
        .collect();
    let make = || {
        let mut stats = PackedStats::default();
        let mut texts = Texts::new(Arc::new(Llama::bytes()), &weights);
        texts.push(kind, text, row_tokens, &mut stats);
        assert_eq!(stats, PackedStats::default());
        texts
    };
    (
        Packed::new(Box::new(make()), row_tokens, BTreeMap::new()),
        make(),
    )
}

fn pieces(packed: &Packed) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = (0..packed.len())
        .flat_map(|row| packed.pieces(row).to_vec())
        .collect();
    pieces.sort_by_key(|piece| piece.units.start);
    pieces
}

fn decoded(example: &Example, markup: Markup) -> String {
    Llama::bytes()
        .decode_markup(&example.ids, markup)
        .expect("known ids")
}

#[test]
fn a_run_in_cwm_means_the_same_wherever_it_is_taken_up() {
    let document = cwm::Document {
        context: CONTEXT.to_owned(),
        frames: frames(),
        end: true,
    };
    let text = cwm::render(&document);
    let (whole, _) = packed("cwm", &text, 8192, &[]);
    assert_eq!(decoded(&whole.example(0), Markup::Cwm), text);

    let (cut, texts) = packed("cwm", &text, 420, &[]);
    let pieces = pieces(&cut);
    assert!(
        pieces.len() > 4 && cut.stats().dropped.is_empty(),
        "{:?}",
        cut.stats()
    );
    let mut next = 0;
    for piece in &pieces {
        assert_eq!(piece.units.start, next);
        next = piece.units.end;
        let parsed = cwm::parse(&decoded(&texts.example(piece), Markup::Cwm));
        assert_eq!(parsed.broken, None);
        let found = parsed.document;
        assert_eq!(found.context, document.context);
        // The last unit of the run is its end.
        let frames =
            (piece.units.start as usize)..(piece.units.end as usize).min(document.frames.len());
        let opening = found.frames.len() - frames.len();
        assert_eq!(
            found.frames[opening..],
            document.frames[frames.clone()],
            "values as in the whole run"
        );
        // What is told is the state of all open scopes, none of which has made a call that is over.
        let told = &found.frames[..opening];
        assert!(told.iter().all(|frame| matches!(frame, Frame::Call { .. })));
        if let Some(last) = told.last() {
            assert_eq!(last.locals(), document.frames[frames.start - 1].locals());
        }
    }
    assert_eq!(next as usize, document.frames.len() + 1);
}

#[test]
fn a_walk_means_the_same_wherever_it_is_taken_up() {
    let mut states = frames().into_iter();
    let document = nd::Document {
        context: CONTEXT.replace("  # << START_OF_TRACE", ""),
        run: Some(Run::Forward(Walk {
            start: states.next().expect("a state"),
            moves: states.map(|state| (Action::StepInto, state)).collect(),
            stop: Stop::Exit(Action::Continue, Exit::Error),
        })),
    };
    let text = nd::render(&document);
    let walk = |document: &nd::Document| match &document.run {
        Some(Run::Forward(walk)) => walk.frames().cloned().collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    let real = walk(&document);
    let (cut, texts) = packed("nd", &text, 400, &[]);
    let pieces = pieces(&cut);
    assert!(
        pieces.len() > 4 && cut.stats().dropped.is_empty(),
        "{:?}",
        cut.stats()
    );
    for piece in &pieces {
        let parsed = nd::parse(&decoded(&texts.example(piece), Markup::Nd));
        assert_eq!(parsed.broken, None);
        let found = walk(&parsed.document);
        // The frame before is told, in full.
        let first = (piece.units.start as usize).saturating_sub(1);
        let end = (piece.units.end as usize).min(real.len());
        assert_eq!(found, real[first..end]);
    }
}

/// The targets of a kind as text.
fn of_kind(example: &Example, kind: &str) -> String {
    let index = Texts::KINDS
        .iter()
        .position(|known| *known == kind)
        .expect("a kind");
    let ids: Vec<u32> = (0..example.targets.len())
        .filter(|&target| example.kind(target) == index)
        .map(|target| example.targets[target].id)
        .collect();
    Llama::bytes()
        .decode_markup(&ids, Markup::Nd)
        .expect("known ids")
}

#[test]
fn targets_are_told_apart_and_frames_end_where_they_end() {
    let document = cwm::Document {
        context: "def f(a):  # << START_OF_TRACE\n    return a\n".to_owned(),
        frames: vec![
            Frame::Call {
                locals: locals(&[("a", 3)]),
                src: "def f(a):\n".into(),
            },
            Frame::Return {
                src: "    return a\n".into(),
                value: "3".into(),
            },
        ],
        end: true,
    };
    let (rows, _) = packed("cwm", &cwm::render(&document), 1024, &[]);
    let row = rows.example(0);
    assert_eq!(
        of_kind(&row, "event"),
        "<|call_sep|><|return_sep|><|end_of_text|>"
    );
    assert_eq!(of_kind(&row, "locals"), r#"{"a": "3"}"#);
    assert_eq!(
        of_kind(&row, "source"),
        "<|action_sep|>def f(a):\n<|frame_sep|><|action_sep|>    return a\n"
    );
    assert_eq!(of_kind(&row, "argument"), r#"<|arg_sep|>"3"<|frame_sep|>"#);
    assert!(of_kind(&row, "context").ends_with("return a\n<|frame_sep|>"));
    let ends: Vec<u32> = row
        .frames
        .iter()
        .map(|&end| row.targets[end as usize - 1].id)
        .collect();
    assert_eq!(ends, [256 + 100, 256 + 100, 256 + 1]);
    assert_eq!(
        row.targets.len(),
        row.ids.len() - 1,
        "all but the first are predicted"
    );

    let (rows, _) = packed(
        "cwm",
        &cwm::render(&document),
        1024,
        &[("context", 0.0), ("event", 0.5)],
    );
    let row = rows.example(0);
    assert_eq!(of_kind(&row, "context"), "");
    assert_eq!(row.targets[0].weight, 0.5);
}

#[test]
fn what_a_debugger_does_is_no_part_of_a_frame() {
    let text = nd::render(&nd::Document {
        context: "x = 1\n".to_owned(),
        run: Some(Run::Forward(Walk {
            start: Frame::Line {
                locals: locals(&[]),
                src: "x = 1\n".into(),
            },
            moves: Vec::new(),
            stop: Stop::Exit(Action::Continue, Exit::Normal),
        })),
    });
    let (rows, _) = packed("nd", &text, 1024, &[]);
    let row = rows.example(0);
    assert_eq!(of_kind(&row, "action"), "<|continue|><|frame_sep|>");
    assert_eq!(
        of_kind(&row, "event"),
        "<|line_sep|><|exit_normal|><|trace_end|><|end_of_text|>"
    );
    assert_eq!(of_kind(&row, "locals"), "<|arg_sep|>{}");
    let framed = *row.frames.last().expect("frames") as usize;
    assert_eq!(row.frames.len(), 2);
    assert!((framed..row.targets.len()).all(|target| [1, 6].contains(&row.kind(target))));
}

#[test]
fn plain_text_goes_on_in_another_row() {
    let text = "Aé ".repeat(40);
    let (rows, texts) = packed("pull_request", &text, 50, &[]);
    let mut ids = Vec::new();
    let mut predicted = 0;
    for piece in pieces(&rows) {
        let example = texts.example(&piece);
        assert_eq!(example.ids[..piece.opening.len()], *piece.opening);
        ids.extend(&example.ids[piece.opening.len()..]);
        predicted += example.targets.len();
    }
    let llama = Llama::bytes();
    assert_eq!(
        llama.decode(&ids),
        Ok(format!("<|begin_of_text|>{text}<|end_of_text|>"))
    );
    assert_eq!(predicted, ids.len() - 1, "each is predicted once");
    assert_eq!(rows.len(), 4, "162 tokens, and one told again at each cut");
}
