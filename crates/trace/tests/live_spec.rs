//! Runs the code blocks of `specs/live.md`.

mod literate;

use std::sync::Arc;

use cwm_trace::live::{
    Ahead, Answers, Behind, Document, Focus, Machine, Parsed, Piece, Window, Workings, parse,
    render,
};
use literate::{Section, check_all};

const SPEC: &str = include_str!("../specs/live.md");

#[test]
fn every_section_holds() {
    check_all(SPEC, 40, check_good, check_broken);
}

/// A source and a table of events give a text, windows or both; the text
/// gives the events back.
fn check_good(section: &Section) {
    let title = &section.title;
    let [source, table] = ["python", "trace"].map(|language| {
        section
            .block(language)
            .unwrap_or_else(|| panic!("{title}: no {language}"))
    });
    let document = Document::from_trace(&literate::trace(&source.replace('␍', "\r"), table));
    let workings = section
        .block("working")
        .map_or_else(Workings::new, workings);
    let mut results = 0;
    for (language, expected) in &section.blocks {
        match language.as_str() {
            "python" | "trace" | "working" => continue,
            "live" => {
                let expected = expected.replace('␠', " ");
                assert_eq!(render(&document), expected, "{title}");
                let document = document.clone();
                assert_eq!(
                    parse(&expected),
                    Parsed {
                        document,
                        broken: None
                    },
                    "{title}"
                );
            }
            "windows" => {
                let windows = Machine::windows(&document, &workings);
                let shown: String = windows.iter().map(show).collect();
                assert_eq!(shown, *expected, "{title}");
            }
            "foci" => {
                let windows = Machine::windows(&document, &workings);
                let shown: String = windows.iter().map(show_foci).collect();
                assert_eq!(shown, *expected, "{title}");
            }
            "jumps" => {
                let shown: String = expected
                    .lines()
                    .map(|line| show_jump(&document, line))
                    .collect();
                assert_eq!(shown, *expected, "{title}");
            }
            language => panic!("{title}: a block of {language}"),
        }
        results += 1;
    }
    assert!(results > 0, "{title}: nothing is expected");
}

/// The window and answer that a line of a block of jumps begins with asking for: `EVENT ACTION [LINE]: ...`.
fn show_jump(document: &Document, line: &str) -> String {
    let (question, _) = line.split_once(':').expect("a question and a window");
    let words: Vec<&str> = question.split(' ').collect();
    let number = |word: &str| word.parse::<u32>().expect("a number");
    let event = number(words[0]) as usize;
    let answers = Answers::new(document);
    let mut machine = Machine::new(&document.source);
    for event in &document.events[..=event] {
        let function = &document.functions[event.function as usize];
        machine.feed(event, function.first_line);
    }
    let ahead = |action| answers.ahead(&machine, event, action);
    let window = match words[1..] {
        ["over"] => ahead(Ahead::Over),
        ["leave"] => ahead(Ahead::Leave),
        ["until", line] => ahead(Ahead::Until(number(line))),
        ["finish"] => ahead(Ahead::Finish),
        ["before"] => answers.behind(event, Behind::Before),
        ["into"] => answers.behind(event, Behind::Into),
        ["input"] => answers.behind(event, Behind::Input),
        _ => panic!("no question: {question}"),
    };
    let shown = window.map_or_else(|| "nothing\n".to_owned(), |window| show(&window));
    format!("{question}: {shown}")
}

/// Steps, one a line, each behind the number of the event it stands before.
fn workings(block: &str) -> Workings {
    let mut workings = Workings::new();
    for line in block.lines() {
        let (event, step) = line.split_once(' ').expect("a number and a step");
        let event = event.parse().expect("the number of an event");
        workings.entry(event).or_default().push(Arc::from(step));
    }
    workings
}

/// A text gives some frames and a message.
fn check_broken(section: &Section) {
    let title = &section.title;
    let [text, expected] = ["broken", "error"].map(|language| {
        section
            .block(language)
            .unwrap_or_else(|| panic!("{title}: no {language}"))
    });
    let Parsed { document, broken } = parse(text);
    let broken = broken.unwrap_or_else(|| panic!("{title}: nothing is broken"));
    let found = format!("{} frames, then {broken}\n", document.events.len());
    assert_eq!(found, expected, "{title}");
    let again = parse(&render(&document));
    assert_eq!(
        again,
        Parsed {
            document,
            broken: None
        },
        "{title}"
    );
}

/// The foci of a window, one a line.
fn show_foci(window: &Window) -> String {
    let foci = window.pieces.iter().filter_map(|word| match &word.piece {
        Piece::Focus(focus) => Some(show_focus(focus)),
        _ => None,
    });
    foci.collect()
}

fn show_focus(focus: &Focus) -> String {
    let lines = |lines: &[u32]| lines.iter().map(|n| format!(" L{n}")).collect::<String>();
    let mut out = focus.text.replace('\n', "⏎");
    for (name, value) in &focus.values {
        out.push_str(&format!(" | {name} `{value}`"));
    }
    for (name, at) in &focus.definitions {
        out.push_str(&format!(" | {name}{}", lines(at)));
    }
    if let Some(consumed) = focus.consumed {
        out.push_str(&format!(" | #{consumed}"));
    }
    format!("{out} <next>{}\n", lines(&focus.next))
}

/// A window as words without its focus, with the given ones in parentheses.
fn show(window: &Window) -> String {
    let mut out = String::new();
    let mut open = false;
    let shown = window
        .pieces
        .iter()
        .filter(|word| !matches!(word.piece, Piece::Focus(_)));
    for word in shown {
        if open && word.predicted {
            out.push(')');
            open = false;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        if !open && !word.predicted {
            out.push('(');
            open = true;
        }
        out.push_str(&show_piece(&word.piece));
    }
    out.push_str(if open { ")\n" } else { "\n" });
    out
}

fn show_piece(piece: &Piece) -> String {
    match piece {
        Piece::Mark(mark) => format!("<{mark:?}>").to_lowercase(),
        Piece::Line(line) => format!("L{line}"),
        Piece::Choice(choice) => format!("N{choice}"),
        Piece::Ordinal(ordinal) => format!("#{ordinal}"),
        Piece::Name(name) => name.to_string(),
        Piece::Value(text) | Piece::Step(text) => format!("`{text}`"),
        Piece::Told(told) => format!("`{}`", told.text),
        Piece::Focus(focus) => show_focus(focus),
    }
}
