//! The control flow that the decoder is held to must allow everything that
//! real runs do.

use std::collections::HashMap;

use cwm_data::{Plan, build, read_records};
use cwm_trace::EventKind;
use cwm_trace::live::{Document, Flow, Outline};
use cwm_tracer::Interpreter;

#[test]
fn every_real_step_is_allowed() {
    let Ok(interpreter) = Interpreter::find(None) else {
        eprintln!("skipped: no Python interpreter");
        return;
    };
    let plan = Plan {
        seed: 4242,
        count: 600,
        mix: [1, 1, 2, 4, 4].into(),
        distinct: Default::default(),
        drills: 1,
        threads: 2,
        excluded: Default::default(),
    };
    let mut bytes = Vec::new();
    build(&plan, &interpreter, &mut bytes, |_| {}).unwrap();
    let mut steps = 0;
    let mut narrowed = 0;
    for record in read_records(&bytes[..]) {
        let document = Document::from_trace(&record.unwrap().trace);
        let (s, n) = check(&document);
        steps += s;
        narrowed += n;
    }
    assert!(steps > 5000, "{steps}");
    // A flow that allowed everything would pass too; most steps must be
    // narrowed down to a few lines.
    assert!(narrowed * 10 > steps * 9, "{narrowed} of {steps}");
}

#[derive(Default)]
struct Activation {
    line: Option<u32>,
    raised: bool,
}

/// Steps checked, and how many had at most four lines to choose from.
fn check(document: &Document) -> (usize, usize) {
    let outline = Outline::new(&document.source);
    let flow = Flow::new(&document.source, &outline);
    let mut activations: HashMap<u32, Activation> = HashMap::new();
    let (mut steps, mut narrowed) = (0, 0);
    for event in &document.events {
        let activation = activations.entry(event.activation).or_default();
        match event.kind {
            EventKind::Line if !activation.raised => {
                let first_line = document.functions[event.function as usize].first_line;
                let allowed = match activation.line {
                    None => Some(flow.first(outline.definition(first_line))),
                    Some(line) => flow.successors(line),
                };
                if let Some(allowed) = allowed {
                    steps += 1;
                    narrowed += usize::from(allowed.len() <= 4);
                    assert!(
                        allowed.contains(&event.line),
                        "line {:?} -> {} is not in {allowed:?} of\n{}",
                        activation.line,
                        event.line,
                        document.source
                    );
                }
                activation.line = Some(event.line);
            }
            EventKind::Line => {
                activation.raised = flow.may_be_unwinding(event.line);
                activation.line = Some(event.line);
            }
            EventKind::Exception => activation.raised = true,
            EventKind::Unwind => assert!(
                activation.raised,
                "line {} unwinds without an exception in\n{}",
                event.line, document.source
            ),
            _ => {}
        }
    }
    (steps, narrowed)
}
