//! Runs the code blocks of `specs/working.md` on a real interpreter.

use std::fmt::Write as _;

use cwm_data::Evaluator;
use cwm_trace::Entry;
use cwm_trace::live::Document;
use cwm_tracer::{Interpreter, Limits, Request, Worker};

const SPEC: &str = include_str!("../specs/working.md");

#[test]
fn the_steps_are_those_of_the_specification() {
    let interpreter = Interpreter::find(None).expect("python3");
    let mut worker = Worker::start(&interpreter, &Limits::default()).expect("a worker");
    let mut evaluator = Evaluator::start(&interpreter).expect("an evaluator");
    let mut sections = 0;
    for section in SPEC.split("\n## ").skip(1) {
        let title = section.lines().next().unwrap_or_default();
        let source = block(section, "python");
        let request = Request {
            file: "program.py",
            source,
            entry: Entry::Module,
            stdin: b"",
            arguments: &[],
        };
        let trace = worker.trace(&request).expect(title);
        let document = Document::from_trace(&trace);
        let workings = evaluator.workings(&document).expect(title);
        let mut found = String::new();
        for (&event, steps) in &workings {
            let activation = document.events[event].activation;
            let running = if document.events[event].kind.enters() {
                document.events[event - 1].line
            } else {
                let earlier = document.events[..event].iter().rev();
                let own = earlier.clone().find(|e| e.activation == activation);
                own.expect("a line before").line
            };
            writeln!(found, "{running}: {}", steps.join("; ")).expect("a string");
        }
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort_by_key(|line| line.split(':').next().and_then(|n| n.parse::<u32>().ok()));
            lines
        };
        assert_eq!(sorted(&found), sorted(block(section, "steps")), "{title}");
        sections += 1;
    }
    assert_eq!(sections, SPEC.matches("```steps").count());
}

/// The content of the fenced block of a language.
fn block<'a>(section: &'a str, language: &str) -> &'a str {
    let fence = format!("```{language}\n");
    let start = section.find(&fence).expect(language) + fence.len();
    let len = section[start..].find("```").expect("an end");
    &section[start..start + len]
}
