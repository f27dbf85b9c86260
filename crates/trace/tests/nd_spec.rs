//! Runs the code blocks of `specs/nd.md`.

mod literate;

use cwm_trace::nd::{
    Action, Document, Forward, Inverse, InverseAction, Parsed, Run, Stop, parse, render, with_main,
};
use literate::{Section, check_all};

const SPEC: &str = include_str!("../specs/nd.md");

#[test]
fn every_section_holds() {
    check_all(SPEC, 25, check_good, check_broken);
}

/// A source, a table of events and a list of actions give a text, in one direction or both; the text gives
/// states and actions back.
fn check_good(section: &Section) {
    let title = &section.title;
    let block = |language: &str| {
        let block = section.block(language);
        block.unwrap_or_else(|| panic!("{title}: no {language}"))
    };
    let trace = literate::trace(block("python"), block("trace"));
    let mut directions = 0;
    if let Some(expected) = section.block("nd") {
        let trace = with_main(&trace);
        let forward = Forward::of(&trace);
        let rows = block("actions").lines();
        let (asked, taken): (Vec<_>, Vec<_>) = rows.partition(|row| row.ends_with(" ?"));
        let mut actions = taken.into_iter().map(action);
        let mut run = forward.walk(|_| actions.next());
        if let (Some(Run::Forward(walk)), Some(row)) = (&mut run, asked.first()) {
            assert_eq!(walk.stop, Stop::Here, "{title}");
            walk.stop = Stop::Asked(action(row.trim_end_matches(" ?")));
        }
        check_text(title, forward.context(), run, expected);
        assert_eq!(actions.next(), None, "{title}: an action cannot be taken");
        directions += 1;
    }
    if let Some(expected) = section.block("inverse") {
        let inverse = Inverse::of(&trace);
        let mut actions = block("inverse-actions").lines().map(inverse_action);
        let run = inverse.walk(|_| actions.next());
        check_text(title, inverse.context(), run, expected);
        assert_eq!(actions.next(), None, "{title}: an action cannot be taken");
        directions += 1;
    }
    assert!(directions > 0, "{title}: nothing is expected");
}

fn check_text(title: &str, context: String, run: Option<Run>, expected: &str) {
    let document = Document { context, run };
    let expected = expected.strip_suffix('\n').expect("a line");
    assert_eq!(render(&document), expected, "{title}");
    assert_eq!(
        parse(expected),
        Parsed {
            document,
            broken: None
        },
        "{title}"
    );
}

/// An action by its name; that of a breakpoint has the line behind it.
fn action(row: &str) -> Action {
    let token = |name: &str| format!("<|{name}|>");
    let plain = [
        Action::StepInto,
        Action::StepOver,
        Action::StepReturn,
        Action::Continue,
    ];
    let found = plain
        .into_iter()
        .find(|action| action.token() == token(row));
    let breakpoint = || {
        let line = row.strip_prefix("breakpoint ")?;
        Some(Action::Breakpoint(format!("{line}\n").into()))
    };
    found
        .or_else(breakpoint)
        .unwrap_or_else(|| panic!("not an action: {row}"))
}

fn inverse_action(row: &str) -> InverseAction {
    let mut all = InverseAction::ALL.into_iter();
    all.find(|action| action.token() == format!("<|{row}|>"))
        .unwrap_or_else(|| panic!("not an inverse action: {row}"))
}

/// A text gives some states and a message.
fn check_broken(section: &Section) {
    let title = &section.title;
    let text = section
        .block("broken")
        .and_then(|text| text.strip_suffix('\n'))
        .expect("a line");
    let expected = section
        .block("error")
        .unwrap_or_else(|| panic!("{title}: no error block"));
    let Parsed { document, broken } = parse(text);
    let broken = broken.unwrap_or_else(|| panic!("{title}: nothing is broken"));
    let states = match &document.run {
        None => 0,
        Some(Run::Forward(walk)) => walk.frames().count(),
        Some(Run::Inverse(walk)) => walk.frames().count(),
    };
    assert_eq!(
        format!("{states} states, then {broken}\n"),
        expected,
        "{title}"
    );
}
