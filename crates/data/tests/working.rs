//! Runs the code blocks of `specs/working.md` on a real interpreter.

use std::fmt::Write as _;

use cwm_data::Evaluator;
use cwm_trace::Entry;
use cwm_trace::live::Document;
use cwm_tracer::{Interpreter, Limits, Request, Worker};
use proptest::prelude::*;

const SPEC: &str = include_str!("../specs/working.md");

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn what_is_worked_out_by_hand_is_right(
        operands in prop::collection::vec((0_i64..2000, 1_i64..300), 40),
        symbol in prop::sample::select(&["*", "//", "%"][..]),
    ) {
        let lines: Vec<String> = operands.iter().map(|(a, b)| format!("x = {a} {symbol} {b}")).collect();
        let document = recorded(&lines.join("\n"));
        let mut evaluator = Evaluator::start(&interpreter()).expect("an evaluator");
        let workings = evaluator.workings(&document).expect("numbers");
        prop_assert_eq!(workings.len(), operands.len());
        for (steps, (a, b)) in workings.values().zip(&operands) {
            for step in steps {
                prop_assert!(holds(step), "{} {} {}: {}", a, symbol, b, step);
            }
            let told = format!("{a} {symbol} {b} = ");
            prop_assert!(steps.last().is_some_and(|step| step.starts_with(&told)));
        }
    }
}

/// Whether a step `A op B = C` of integers is true.
fn holds(step: &str) -> bool {
    let parts: Vec<&str> = step.split(' ').collect();
    let [left, symbol, right, "=", result] = parts[..] else {
        return false;
    };
    let [left, right, result] =
        [left, right, result].map(|n| n.parse::<i64>().expect("an integer"));
    let value = match symbol {
        "+" => left + right,
        "*" => left * right,
        "//" => left.div_euclid(right),
        "%" => left.rem_euclid(right),
        _ => return false,
    };
    value == result
}

fn interpreter() -> Interpreter {
    Interpreter::find(None).expect("python3")
}

fn recorded(source: &str) -> Document {
    let mut worker = Worker::start(&interpreter(), &Limits::default()).expect("a worker");
    let request = Request {
        file: "program.py",
        source,
        entry: Entry::Module,
        stdin: b"",
        arguments: &[],
    };
    Document::from_trace(&worker.trace(&request).expect("a program"))
}

#[test]
fn the_steps_are_those_of_the_specification() {
    let mut evaluator = Evaluator::start(&interpreter()).expect("an evaluator");
    let mut sections = 0;
    for section in SPEC.split("\n## ").skip(1) {
        let title = section.lines().next().unwrap_or_default();
        let source = block(section, "python");
        let document = recorded(source);
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
