//! A trace as the JSON object that `serde_json` makes of it, the same bytes, several times as fast.
//!
//! Most of what an event says of its variables is what the event before it said, and the recorder shares the texts
//! of what has not changed. So a variable whose texts are the very ones of the last event of its activation is
//! copied from what was written there, and nothing of it is looked at again.

use std::sync::Arc;

use serde::Serialize;

use crate::{Event, Local, Trace};

/// Appends a trace to `out`.
///
/// # Errors
/// None that a trace can cause; those of the serializer.
pub fn write_trace(trace: &Trace, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let Trace {
        python,
        file,
        source,
        other_files,
        entry,
        thread,
        functions,
        events,
        end,
        stdout,
        stderr,
    } = trace;
    out.push(b'{');
    write_field("python", python, out)?;
    write_field("file", file, out)?;
    write_field("source", source, out)?;
    if !other_files.is_empty() {
        write_field("other_files", other_files, out)?;
    }
    write_field("entry", entry, out)?;
    if thread.is_some() {
        write_field("thread", thread, out)?;
    }
    write_field("functions", functions, out)?;
    begin_field("events", out);
    write_events(events, out)?;
    write_field("end", end, out)?;
    write_field("stdout", stdout, out)?;
    write_field("stderr", stderr, out)?;
    out.push(b'}');
    Ok(())
}

/// Appends the name of a field of the object that `out` ends with.
pub fn begin_field(name: &str, out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends a field to the object that `out` ends with.
///
/// # Errors
/// Those of the serializer.
pub fn write_field(
    name: &str,
    value: &impl Serialize,
    out: &mut Vec<u8>,
) -> serde_json::Result<()> {
    begin_field(name, out);
    serde_json::to_writer(out, value)
}

/// What was written of the last event of an activation that had variables.
#[derive(Clone, Default)]
struct Written {
    event: usize,
    /// Where the text of each variable begins in the output, and one behind the last.
    starts: Vec<usize>,
}

fn write_events(events: &[Event], out: &mut Vec<u8>) -> serde_json::Result<()> {
    let mut activations: Vec<Written> = Vec::new();
    out.push(b'[');
    for (number, event) in events.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"kind\":\"");
        out.extend_from_slice(event.kind.name().as_bytes());
        out.extend_from_slice(b"\",\"activation\":");
        serde_json::to_writer(&mut *out, &event.activation)?;
        out.extend_from_slice(b",\"function\":");
        serde_json::to_writer(&mut *out, &event.function)?;
        out.extend_from_slice(b",\"line\":");
        serde_json::to_writer(&mut *out, &event.line)?;
        if !event.locals.is_empty() {
            begin_field("locals", out);
            out.push(b'[');
            let activation = event.activation as usize;
            // Activations are numbered in order, but a trace that was read from a file may say anything.
            if activation <= events.len() {
                if activations.len() <= activation {
                    activations.resize(activation + 1, Written::default());
                }
                let before = &mut activations[activation];
                write_locals(&event.locals, &events[before.event].locals, before, out)?;
                before.event = number;
            } else {
                write_locals(&event.locals, &[], &mut Written::default(), out)?;
            }
            out.push(b']');
        }
        if event.value.is_some() {
            write_field("value", &event.value, out)?;
        }
        out.push(b'}');
    }
    out.push(b']');
    Ok(())
}

/// Appends variables; `last` are those that `before` is about.
fn write_locals(
    locals: &[Local],
    last: &[Local],
    before: &mut Written,
    out: &mut Vec<u8>,
) -> serde_json::Result<()> {
    let known = before.starts.len().saturating_sub(1).min(last.len());
    for (place, local) in locals.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        let start = out.len();
        if place < known && is_same(local, &last[place]) {
            // The text of the next variable begins behind a comma.
            let end = before.starts[place + 1] - 1;
            out.extend_from_within(before.starts[place]..end);
        } else {
            serde_json::to_writer(&mut *out, local)?;
        }
        match before.starts.get_mut(place) {
            Some(known) => *known = start,
            None => before.starts.push(start),
        }
    }
    before.starts.truncate(locals.len());
    before.starts.push(out.len() + 1);
    Ok(())
}

/// Whether two variables are made of the very same texts.
fn is_same(a: &Local, b: &Local) -> bool {
    Arc::ptr_eq(&a.name, &b.name) && a.value.shares_texts_with(&b.value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{End, Entry, EventKind, Function, SourceFile, Thread, Value};

    /// Events whose variables come and go and share texts as those of a recorder do, and as none would.
    fn events() -> impl Strategy<Value = Vec<Event>> {
        let texts: Vec<Arc<str>> = ["1", "'a\"b\\n'", "[1, 2]", "é\n\u{1}", ""]
            .map(Arc::from)
            .into();
        let names: Vec<Arc<str>> = ["x", "y", "total"].map(Arc::from).into();
        let text = prop::sample::select(texts.clone());
        let value = (
            text,
            prop::option::of(prop::sample::select(texts)),
            any::<bool>(),
        )
            .prop_map(|(repr, detail, truncated)| Value {
                repr,
                detail,
                truncated,
            });
        let local = (prop::sample::select(names), value.clone())
            .prop_map(|(name, value)| Local { name, value });
        let event = (
            prop::sample::select(EventKind::ALL.to_vec()),
            prop::sample::select(vec![0, 1, 2, 900]),
            prop::collection::vec(local, 0..4),
            prop::option::of(value),
        );
        let event = event.prop_map(|(kind, activation, locals, value)| Event {
            kind,
            activation,
            function: 0,
            line: 7,
            locals,
            value,
        });
        prop::collection::vec(event, 0..12)
    }

    fn trace(events: Vec<Event>, is_full: bool) -> Trace {
        let file = SourceFile {
            path: "b.py".into(),
            text: "'\"'".into(),
        };
        let thread = Thread {
            number: 2,
            name: "t".into(),
        };
        Trace {
            python: "3.11.7".into(),
            file: "a.py".into(),
            source: "x = '\"'\n".into(),
            other_files: if is_full { vec![file] } else { Vec::new() },
            entry: Entry::Call {
                function: "f".into(),
                args: "1".into(),
            },
            thread: is_full.then_some(thread),
            functions: vec![Function {
                name: "f".into(),
                qualname: "C.f".into(),
                first_line: 1,
                file: u32::from(is_full),
            }],
            events,
            end: End::Timeout(0.1),
            stdout: "\t".into(),
            stderr: String::new(),
        }
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_serde(events in events(), is_full: bool) {
            let trace = trace(events, is_full);
            let mut written = b"before ".to_vec();
            write_trace(&trace, &mut written).expect("it is written");
            let expected = serde_json::to_string(&trace).expect("it is written");
            prop_assert_eq!(String::from_utf8_lossy(&written), format!("before {expected}"));
        }
    }
}
