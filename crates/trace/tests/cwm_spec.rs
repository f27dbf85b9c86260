//! Runs the code blocks of `specs/cwm.md`.

mod literate;

use cwm_trace::cwm::{Document, Parsed, parse, render};
use literate::{Section, check_all};

const SPEC: &str = include_str!("../specs/cwm.md");

#[test]
fn every_section_holds() {
    check_all(SPEC, 20, check_good, check_broken);
}

/// A source and a table of events give a text; the text gives them back.
fn check_good(section: &Section) {
    let title = &section.title;
    let [source, table, expected] = ["python", "trace", "cwm"].map(|language| {
        section
            .block(language)
            .unwrap_or_else(|| panic!("{title}: no {language}"))
    });
    let expected = expected.strip_suffix('\n').expect("a line");
    let source = source.replace("␍", "\r");
    let document = Document::from_trace(&literate::trace(&source, table));
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

/// A text gives some frames and a message.
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
    assert_eq!(
        format!("{} frames, then {broken}\n", document.frames.len()),
        expected,
        "{title}"
    );
}
