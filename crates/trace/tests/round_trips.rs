//! What is written comes back, and no input makes a reader panic.

mod strategies;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use cwm_trace::cwm::{self, Document, Frame, Locals, Scopes};
use cwm_trace::{End, Entry, Event, EventKind, Function, Local, Trace, Value, jsonl, parquet};
use proptest::collection::vec;
use proptest::prelude::*;
use strategies::{frame, text, trace};

fn document() -> impl Strategy<Value = Document> {
    (text(), vec(frame(), 0..12), any::<bool>()).prop_map(|(context, frames, end)| Document {
        context: context.to_string(),
        frames,
        end,
    })
}

fn written(trace: &Trace) -> Vec<u8> {
    let mut bytes = Vec::new();
    jsonl::write(trace, &mut bytes).expect("memory");
    bytes
}

/// `bytes` as an open file.
fn file(bytes: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("disk");
    file
}

/// The trace as a table on disk.
fn table(trace: &Trace) -> std::fs::File {
    let mut bytes = Vec::new();
    parquet::write(trace, &mut bytes).expect("memory");
    file(&bytes)
}

proptest! {
    #[test]
    fn a_document_comes_back(document in document()) {
        let parsed = cwm::parse(&cwm::render(&document));
        prop_assert_eq!(parsed.broken, None);
        prop_assert_eq!(parsed.document, document);
    }

    #[test]
    fn a_recorded_run_comes_back(trace in trace()) {
        let document = Document::from_trace(&trace);
        prop_assert_eq!(document.frames.len(), trace.events.len());
        let parsed = cwm::parse(&cwm::render(&document));
        prop_assert_eq!(parsed.broken, None);
        prop_assert_eq!(parsed.document, document);
    }

    /// A text cut anywhere gives a beginning of the document and says where.
    #[test]
    fn a_cut_text_keeps_what_was_good(document in document(), cut in any::<proptest::sample::Index>()) {
        let text = cwm::render(&document);
        let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
        let cut = places[cut.index(places.len())];
        let parsed = cwm::parse(&text[..cut]);
        let good = parsed.document.frames.len();
        prop_assert_eq!(&parsed.document.frames[..], &document.frames[..good]);
        prop_assert!(!parsed.document.end);
        if let Some(broken) = parsed.broken {
            prop_assert!(broken.offset <= cut);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(pieces in vec(prop_oneof![
        proptest::sample::select(&[
            cwm::BEGIN_OF_TEXT, cwm::TRACE_CONTEXT_START, cwm::FRAME_SEP, cwm::CALL_SEP,
            cwm::LINE_SEP, cwm::ACTION_SEP, cwm::ARG_SEP, cwm::RETURN_SEP, cwm::EXCEPTION_SEP,
            "{", "}", "\"", ":", ", ", "\\u", "\\ud83d", "\\n", "é", "..", "\"a\"", "{}", "x\n",
        ][..]).prop_map(str::to_owned),
        any::<String>(),
    ], 0..20)) {
        let text = cwm::render_prompt("x") + &pieces.concat();
        let parsed = cwm::parse(&text);
        if let Some(broken) = parsed.broken {
            prop_assert!(text.is_char_boundary(broken.offset));
        }
        // What could be read is a document like any other.
        let again = cwm::parse(&cwm::render(&parsed.document));
        prop_assert_eq!(again, cwm::Parsed { document: parsed.document, broken: None });
        cwm::parse(&pieces.concat());
    }

    #[test]
    fn a_trace_on_disk_comes_back(trace in trace()) {
        let bytes = written(&trace);
        prop_assert_eq!(jsonl::read(&bytes[..]).map_err(|error| error.to_string()), Ok(trace));
    }

    #[test]
    fn a_table_comes_back(mut trace in trace()) {
        for event in &mut trace.events {
            let mut seen = std::collections::HashSet::new();
            event.locals.retain(|local| seen.insert(local.name.clone()));
        }
        let back = parquet::read(table(&trace)).map_err(|error| error.to_string());
        prop_assert_eq!(back, Ok(trace));
    }

    /// Neither a cut nor a changed byte makes the reader panic.
    #[test]
    fn a_damaged_table_is_refused_or_read(
        trace in trace(),
        cut in any::<proptest::sample::Index>(),
        changed in vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = Vec::new();
        parquet::write(&trace, &mut bytes).expect("memory");
        for (place, byte) in &changed {
            let place = place.index(bytes.len());
            bytes[place] = *byte;
        }
        if changed.is_empty() {
            bytes.truncate(cut.index(bytes.len()));
        }
        let read = parquet::read(file(&bytes));
        prop_assert!(read.is_err() || !changed.is_empty());
    }

    #[test]
    fn a_cut_file_yields_its_events(trace in trace(), cut in any::<proptest::sample::Index>()) {
        let bytes = written(&trace);
        let cut = cut.index(bytes.len() - 1);
        let error = jsonl::read(&bytes[..cut]).expect_err("a cut file");
        let whole_lines = bytes[..cut].iter().filter(|&&byte| byte == b'\n').count();
        match error.partial {
            None => prop_assert_eq!(whole_lines, 0),
            Some(partial) => {
                // A cut just before a newline leaves one more line whole.
                let read = partial.events.len();
                prop_assert!(read + 1 == whole_lines || read == whole_lines);
                prop_assert_eq!(&partial.events[..], &trace.events[..read]);
                prop_assert!(!partial.end.is_complete());
                prop_assert!(matches!(error.reason, jsonl::Reason::Cut(events) if events == read));
            }
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(trace in trace(), edits in vec(any::<(usize, u8)>(), 0..6)) {
        let mut bytes = written(&trace);
        for (place, byte) in edits {
            let length = bytes.len();
            bytes[place % length] = byte;
        }
        let _ = jsonl::read(&bytes[..]);
    }
}

/// More names than a small scope holds, in changing order: the slow way of
/// looking a name up must find what the quick one does.
#[test]
fn a_large_scope_comes_back() {
    let names: Vec<Arc<str>> = (0..300).map(|number| format!("v{number}").into()).collect();
    let shuffled = |step: usize| -> Locals {
        (0..300)
            .map(|place| (names[place * step % 300].clone(), "1".into()))
            .collect()
    };
    let line = |locals| Frame::Line {
        locals,
        src: "x\n".into(),
    };
    let frames = vec![line(shuffled(1)), line(shuffled(7)), line(shuffled(11))];
    let document = Document {
        context: "x".to_owned(),
        frames,
        end: true,
    };
    let text = cwm::render(&document);
    assert_eq!(text.matches("\"..\"").count(), 600);
    assert_eq!(cwm::parse(&text).document, document);
}

/// A model is read frame by frame, with the scopes of the text before.
#[test]
fn frames_are_read_one_by_one() {
    let mut scopes = Scopes::new();
    let first = "<|call_sep|>{\"a\": \"1\"}<|action_sep|>x\n<|frame_sep|>";
    cwm::parse_frame(first, 0, &mut scopes).expect("a frame");
    let bad = "<|line_sep|>{\"a\": \"..\", \"b\": \"..\"}<|action_sep|>x\n<|frame_sep|>";
    cwm::parse_frame(bad, 0, &mut scopes).expect_err("`b` was never shown");
    let good = "..<|line_sep|>{\"a\": \"..\"}<|action_sep|>return CODE  # << START_OF_TRACE\n<|frame_sep|>";
    let (frame, next) = cwm::parse_frame(good, 2, &mut scopes).expect("a frame");
    assert_eq!(
        (next, frame.code(), scopes.depth()),
        (good.len(), "return CODE", 1)
    );
    assert_eq!(
        frame
            .locals()
            .and_then(|locals| locals.get("a"))
            .map(|value| &**value),
        Some("1")
    );
}

/// Strings are spelled as Python spells them, character by character.
#[test]
fn strings_equal_python_json_dumps() {
    let script = "import json, sys\n\
        chars = [chr(c) for c in [*range(0x800), *range(0xd7f0, 0xd800), *range(0xe000, 0xe010),\n\
        *range(0xfff0, 0x10010), *range(0x1f600, 0x1f610), 0x10ffff]]\n\
        print(json.dumps(''.join(chars)))";
    let Some(expected) = python(script) else {
        // Past the test harness, which would swallow it.
        let _ = writeln!(std::io::stderr(), "SKIPPED: no python3 on this machine");
        return;
    };
    let text: String = (0..0x800)
        .chain(0xd7f0..0xd800)
        .chain(0xe000..0xe010)
        .chain(0xfff0..0x10010)
        .chain(0x1f600..0x1f610)
        .chain([0x10ffff])
        .filter_map(char::from_u32)
        .collect();
    let frame = Frame::Return {
        src: "".into(),
        value: text.into(),
    };
    let mut ours = String::new();
    cwm::render_frame(&frame, &mut Scopes::new(), &mut ours);
    assert_eq!(
        ours,
        format!(
            "<|return_sep|><|action_sep|><|arg_sep|>{}<|frame_sep|>",
            expected.trim()
        )
    );
}

fn python(script: &str) -> Option<String> {
    let mut child = Command::new("python3")
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(script.as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8(output.stdout).ok())?
}

/// The messages about files that are not whole traces.
#[test]
fn bad_files_are_named() {
    let header = r#"{"format":"cwm-trace","version":1,"python":"3.11.7","file":"a.py","source":"","entry":"module","functions":[]}"#;
    let end = r#"{"end":{"how":"finished","stdout":"","stderr":""}}"#;
    let event = r#"{"event":{"kind":"line","activation":0,"function":3,"line":1}}"#;
    let message = |lines: &[&str]| {
        jsonl::read((lines.join("\n") + "\n").as_bytes())
            .expect_err("a bad file")
            .to_string()
    };
    insta::assert_snapshot!(jsonl::read(&b""[..]).expect_err("empty"), @r#"line 1: not a trace: the first line should be the header of a `cwm-trace` file (the file is empty)"#);
    insta::assert_snapshot!(message(&["hello"]), @r#"line 1: not a trace: the first line should be the header of a `cwm-trace` file (expected value, column 1)"#);
    insta::assert_snapshot!(message(&[r#"{"format":"gpx","version":1}"#]), @r#"line 1: not a trace: the first line should be the header of a `cwm-trace` file (it says `gpx`)"#);
    insta::assert_snapshot!(message(&[&header.replace("\"version\":1", "\"version\":2")]), @r#"line 1: the trace has format version 2, but only version 1 can be read; record it again or use the version of cwm that wrote it"#);
    insta::assert_snapshot!(message(&[header]), @r#"line 2: the trace is cut off after 0 events"#);
    insta::assert_snapshot!(message(&[header, event, end]), @r#"line 2: the event refers to function 3, but the header lists 0"#);
    insta::assert_snapshot!(message(&[header, "{}", end]), @r#"line 2: not a line of a trace: expected value, column 2"#);
    insta::assert_snapshot!(message(&[header, r#"{"step":{}}"#, end]), @r#"line 2: not a line of a trace: unknown variant `step`, expected `event` or `end`, column 7"#);
    insta::assert_snapshot!(message(&[header, end, end]), @r#"line 3: there is more after the end of the trace"#);
}

/// The form on disk, for people who read it without this program.
#[test]
fn a_file_looks_like_this() {
    let value = Value {
        repr: "<A object>".into(),
        detail: Some("A(x=1)".into()),
        truncated: false,
    };
    let local = Local {
        name: "a".into(),
        value: value.clone(),
    };
    let event = |kind, locals, value| Event {
        kind,
        activation: 0,
        function: 0,
        line: 1,
        locals,
        value,
    };
    let trace = Trace {
        python: "3.11.7".to_owned(),
        file: "a.py".to_owned(),
        source: "def f(a): return a\n".to_owned(),
        other_files: Vec::new(),
        entry: Entry::Call {
            function: "f".to_owned(),
            args: "A(1)".to_owned(),
        },
        thread: None,
        functions: vec![Function {
            name: "f".to_owned(),
            qualname: "f".to_owned(),
            first_line: 1,
            file: 0,
        }],
        events: vec![
            event(EventKind::Call, vec![local], None),
            event(EventKind::Return, Vec::new(), Some(value)),
        ],
        end: End::Timeout(0.1),
        stdout: "hi\n".to_owned(),
        stderr: String::new(),
    };
    let text = String::from_utf8(written(&trace)).expect("UTF-8");
    insta::assert_snapshot!(text, @r###"
    {"format":"cwm-trace","version":1,"python":"3.11.7","file":"a.py","source":"def f(a): return a\n","entry":{"call":{"function":"f","args":"A(1)"}},"functions":[{"name":"f","qualname":"f","first_line":1}]}
    {"event":{"kind":"call","activation":0,"function":0,"line":1,"locals":[{"name":"a","value":{"repr":"<A object>","detail":"A(x=1)"}}]}}
    {"event":{"kind":"return","activation":0,"function":0,"line":1,"value":{"repr":"<A object>","detail":"A(x=1)"}}}
    {"end":{"how":{"timeout":0.1},"stdout":"hi\n","stderr":""}}
    "###);
}

#[test]
fn a_time_limit_without_a_number_is_refused() {
    let trace = Trace {
        python: String::new(),
        file: String::new(),
        source: String::new(),
        other_files: Vec::new(),
        entry: Entry::Module,
        thread: None,
        functions: Vec::new(),
        events: Vec::new(),
        end: End::Timeout(f64::NAN),
        stdout: String::new(),
        stderr: String::new(),
    };
    let error = jsonl::write(&trace, Vec::new()).expect_err("not a number");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}
