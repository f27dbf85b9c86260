//! The `nd` dialect: what is written comes back, no text makes the reader panic, and samples are what they
//! promise to be, also of events that no program could cause.

mod literate;
mod strategies;

use std::collections::HashMap;

use cwm_trace::cwm::{self, Frame};
use cwm_trace::nd::{
    self, Action, Direction, Document, Exit, Extent, Forward, Inverse, InverseAction, InverseExit,
    InverseFrame, Next, Parsed, Run, Sampling, Shown, Stop, Walk, parse, render, sample, with_main,
};
use cwm_trace::{End, Trace};
use proptest::collection::vec;
use proptest::prelude::*;
use strategies::{frame, locals, text, trace};

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => Just(Action::StepInto),
        2 => Just(Action::StepOver),
        1 => Just(Action::StepReturn),
        1 => text().prop_map(Action::Breakpoint),
        1 => Just(Action::Continue),
    ]
}

fn exit() -> impl Strategy<Value = Exit> {
    proptest::sample::select(&Exit::ALL[..])
}

fn shown() -> impl Strategy<Value = Shown> {
    (locals(), any::<bool>()).prop_map(|(listed, rest)| Shown { listed, rest })
}

fn inverse_frame() -> impl Strategy<Value = InverseFrame> {
    prop_oneof![
        (text(), text()).prop_map(|(src, value)| InverseFrame::Return { src, value }),
        (text(), text()).prop_map(|(src, value)| InverseFrame::Exception { src, value }),
        (text(), shown()).prop_map(|(src, shown)| InverseFrame::LineCall { src, shown }),
        (text(), shown()).prop_map(|(src, shown)| InverseFrame::Line { src, shown }),
        (text(), locals()).prop_map(|(src, locals)| InverseFrame::Call { src, locals }),
    ]
}

fn inverse_action() -> impl Strategy<Value = InverseAction> {
    proptest::sample::select(&InverseAction::ALL[..])
}

fn walk<F, A, E>(
    frame: impl Strategy<Value = F> + Clone + 'static,
    action: impl Strategy<Value = A> + Clone + 'static,
    exit: impl Strategy<Value = E> + 'static,
) -> impl Strategy<Value = Walk<F, A, E>>
where
    F: std::fmt::Debug + Clone + 'static,
    A: std::fmt::Debug + Clone + 'static,
    E: std::fmt::Debug + Clone + 'static,
{
    let stop = prop_oneof![
        Just(Stop::Here),
        action.clone().prop_map(Stop::Asked),
        (action.clone(), exit).prop_map(|(action, exit)| Stop::Exit(action, exit)),
    ];
    (frame.clone(), vec((action, frame), 0..10), stop).prop_map(|(start, moves, stop)| Walk {
        start,
        moves,
        stop,
    })
}

fn document() -> impl Strategy<Value = Document> {
    let forward = walk(frame().boxed(), action().boxed(), exit());
    let inverse = walk(
        inverse_frame().boxed(),
        inverse_action().boxed(),
        Just(InverseExit::Entry),
    );
    let run = prop_oneof![
        1 => Just(None),
        8 => forward.prop_map(|walk| Some(Run::Forward(walk))),
        8 => inverse.prop_map(|walk| Some(Run::Inverse(walk))),
    ];
    (text(), run).prop_map(|(context, run)| Document {
        context: context.to_string(),
        run,
    })
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let direction = prop_oneof![Just(Direction::Forward), Just(Direction::Inverse)];
    let extent = prop_oneof![Just(Extent::Run), Just(Extent::Call)];
    (direction, extent, any::<u64>()).prop_map(|(direction, extent, seed)| Sampling {
        direction,
        extent,
        seed,
    })
}

/// Whether a document is the beginning of another.
fn begins(part: &Document, whole: &Document) -> bool {
    fn prefix<F: PartialEq, A: PartialEq, E: PartialEq>(
        part: &Walk<F, A, E>,
        whole: &Walk<F, A, E>,
    ) -> bool {
        let (n, exit) = (part.moves.len(), matches!(part.stop, Stop::Exit(..)));
        let asked = match (&part.stop, whole.moves.get(n), &whole.stop) {
            (Stop::Asked(asked), Some((action, _)), _) => asked == action,
            (Stop::Asked(asked), None, Stop::Asked(action) | Stop::Exit(action, _)) => {
                asked == action
            }
            (stop, ..) => *stop == Stop::Here,
        };
        part.start == whole.start
            && part.moves[..] == whole.moves[..n]
            && (asked || exit && part == whole)
    }
    match (&part.run, &whole.run) {
        (None, _) => true,
        (Some(Run::Forward(part)), Some(Run::Forward(whole))) => prefix(part, whole),
        (Some(Run::Inverse(part)), Some(Run::Inverse(whole))) => prefix(part, whole),
        _ => false,
    }
}

proptest! {
    #[test]
    fn a_document_comes_back(document in document()) {
        let parsed = parse(&render(&document));
        prop_assert_eq!(parsed.broken, None);
        prop_assert_eq!(parsed.document, document);
    }

    /// A text cut anywhere gives a beginning of the document and says where.
    #[test]
    fn a_cut_text_keeps_what_was_good(document in document(), cut in any::<proptest::sample::Index>()) {
        let text = render(&document);
        let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
        let cut = places[cut.index(places.len())];
        let parsed = parse(&text[..cut]);
        prop_assert!(begins(&parsed.document, &document), "{parsed:?}");
        if let Some(broken) = parsed.broken {
            prop_assert!(broken.offset <= cut);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(pieces in vec(prop_oneof![
        4 => proptest::sample::select(nd::TOKENS).prop_map(str::to_owned),
        6 => proptest::sample::select(&[
            cwm::FRAME_SEP, cwm::CALL_SEP, cwm::LINE_SEP, cwm::ACTION_SEP, cwm::ARG_SEP,
            cwm::RETURN_SEP, cwm::EXCEPTION_SEP, cwm::END_OF_TEXT, cwm::BEGIN_OF_TEXT,
            "{", "}", "\"", ":", ", ", "\\ud83d", "é", "\"..\": \"..\"", "\"a\"", "{}", "x\n",
        ][..]).prop_map(str::to_owned),
        3 => proptest::sample::select(&[
            "<|action_sep|><|step_into|><|frame_sep|>", "<|action_sep|><|inv_step_over|><|frame_sep|>",
            "<|call_sep|><|src_sep|>x<|arg_sep|>{\"a\": \"1\"}",
            "<|line_sep|><|arg_sep|>{\"..\": \"..\"}<|src_sep|>x",
            "<|inv_line_sep|><|src_sep|>x<|arg_sep|>{\"..\": \"..\"}",
        ][..]).prop_map(str::to_owned),
        1 => any::<String>(),
    ], 0..20)) {
        let text = render(&Document { context: "x".to_owned(), run: None }) + &pieces.concat();
        let parsed = parse(&text);
        if let Some(broken) = parsed.broken {
            prop_assert!(text.is_char_boundary(broken.offset));
        }
        // What could be read is a document like any other.
        let again = parse(&render(&parsed.document));
        prop_assert_eq!(again, Parsed { document: parsed.document, broken: None });
        parse(&pieces.concat());
    }

    #[test]
    fn a_sample_comes_back_and_is_a_function_of_its_numbers(
        trace in trace(), sampling in sampling(), number in 0..4_u64,
    ) {
        let document = sample(&trace, &sampling, number);
        prop_assert_eq!(&document, &sample(&trace.clone(), &sampling, number));
        prop_assert_eq!(document.run.is_none(), trace.events.is_empty());
        let parsed = parse(&render(&document));
        prop_assert_eq!(parsed.broken, None);
        prop_assert_eq!(parsed.document, document);
    }

    /// Each action leads behind the state, or out of the run.
    #[test]
    fn every_action_leads_on(trace in trace(), line in text()) {
        let forward = Forward::of(&trace);
        let actions = [
            Action::StepInto, Action::StepOver, Action::StepReturn, Action::Continue,
            Action::Breakpoint(line),
        ];
        for state in 0..forward.states() {
            for action in &actions {
                if let Some(Next::State(next)) = forward.next(state, action) {
                    prop_assert!(next > state && next < forward.states());
                }
            }
        }
        let inverse = Inverse::of(&trace);
        let events: Vec<_> = (0..inverse.states()).map(|state| inverse.event(state)).collect();
        let plain = events.iter().filter(|(_, has_called)| !has_called).map(|&(event, _)| event);
        prop_assert!(plain.eq((0..trace.events.len()).rev()));
        for state in 0..inverse.states() {
            for action in &InverseAction::ALL {
                if let Some(Next::State(next)) = inverse.next(state, action) {
                    prop_assert!(next > state && next < inverse.states());
                }
            }
        }
    }
}

/// A loop that calls a function, and a branch that is not taken.
fn example() -> Trace {
    let source = "\
def g(x):
    return x * 2

def f(n):
    total = 0
    for i in range(n):
        # Twice as much.
        total += g(i)
    if total < 0:
        return None
    return total
";
    let mut table = "entry f(30)\ncall f 4 {\"n\": \"30\"}\nline f 5 {\"n\": \"30\"}\n".to_owned();
    let mut total = 0;
    for i in 0..30 {
        let before = match i {
            0 => String::new(),
            _ => format!(", \"i\": \"{}\"", i - 1),
        };
        let state = format!("\"n\": \"30\", \"total\": \"{total}\"");
        table += &format!("line f 6 {{{state}{before}}}\nline f 8 {{{state}, \"i\": \"{i}\"}}\n");
        table += &format!("call g 1 {{\"x\": \"{i}\"}}\nline g 2 {{\"x\": \"{i}\"}}\n");
        table += &format!("return g 2 {{\"x\": \"{i}\"}} \"{}\"\n", i * 2);
        total += i * 2;
    }
    let state = format!("{{\"n\": \"30\", \"total\": \"{total}\", \"i\": \"29\"}}");
    for line in [6, 9, 11] {
        table += &format!("line f {line} {state}\n");
    }
    table += &format!("return f 11 {state} \"{total}\"\n");
    literate::trace(source, &table)
}

fn forward_walks(count: u64) -> Vec<Walk<Frame, Action, Exit>> {
    let sampling = Sampling {
        direction: Direction::Forward,
        extent: Extent::Run,
        seed: 7,
    };
    let trace = example();
    let walk = |number| match sample(&trace, &sampling, number).run {
        Some(Run::Forward(walk)) => walk,
        other => panic!("not a forward run: {other:?}"),
    };
    (0..count).map(walk).collect()
}

fn actions<F, A: Clone, E>(walk: &Walk<F, A, E>) -> Vec<A> {
    let last = match &walk.stop {
        Stop::Exit(action, _) => Some(action.clone()),
        Stop::Here | Stop::Asked(_) => None,
    };
    let moves = walk.moves.iter().map(|(action, _)| action.clone());
    moves.chain(last).collect()
}

/// Two rows of shares, each for half of the documents.
#[test]
fn actions_have_their_shares() {
    let walks = forward_walks(2_000);
    let is_step = |action: &Action| matches!(action, Action::StepInto | Action::StepOver);
    // Where every action is a step, and there are many, the second row was drawn; half of those that
    // follow it pass over the one call that `main` makes.
    let is_long = |walk: &&Walk<_, _, _>| walk.moves.len() > 30;
    let long = walks.iter().filter(is_long);
    let steps = long.filter(|walk| actions(walk).iter().all(is_step));
    let share = steps.count() as f64 / walks.len() as f64;
    assert!((0.22..0.28).contains(&share), "{share}");
    // In the first state all actions can be taken.
    let mut counts: HashMap<&str, f64> = HashMap::new();
    for walk in &walks {
        let first = &actions(walk)[0];
        *counts.entry(first.token()).or_default() += 1.0 / walks.len() as f64;
    }
    let expected = [
        (Action::StepInto, 0.25 + 0.5 * 35.0 / 80.0),
        (Action::StepOver, 0.25 + 0.5 * 10.0 / 80.0),
        (Action::StepReturn, 0.5 * 20.0 / 80.0),
        (Action::Breakpoint("".into()), 0.5 * 10.0 / 80.0),
        (Action::Continue, 0.5 * 5.0 / 80.0),
    ];
    for (action, share) in expected {
        let found = counts.get(action.token()).copied().unwrap_or(0.0);
        assert!(
            (found - share).abs() < 0.035,
            "{action:?}: {found}, not {share}"
        );
    }
}

/// Where both can be had, four of five breakpoints are on a line that will run. The others lead out of the
/// run.
#[test]
fn breakpoints_are_on_code() {
    let (mut reached, mut missed): (HashMap<String, u32>, HashMap<_, _>) = Default::default();
    for walk in forward_walks(6_000) {
        let (counts, first) = match (walk.moves.first(), &walk.stop) {
            (Some((action, _)), _) => (&mut reached, action),
            (None, Stop::Exit(action, exit)) => {
                assert_eq!(*exit, Exit::Normal);
                (&mut missed, action)
            }
            (None, stop) => panic!("no action: {stop:?}"),
        };
        if let Action::Breakpoint(line) = first {
            *counts.entry(line.trim().to_owned()).or_default() += 1;
        }
    }
    let total = |counts: &HashMap<String, u32>| f64::from(counts.values().sum::<u32>());
    let share = total(&reached) / (total(&reached) + total(&missed));
    assert!((0.75..0.85).contains(&share), "{share}");
    let lines = |counts: &HashMap<String, u32>| {
        let mut lines: Vec<_> = counts.keys().cloned().collect();
        lines.sort();
        lines
    };
    let code = [
        "for i in range(n):",
        "if total < 0:",
        "return f(30)",
        "return total",
        "return x * 2",
        "total += g(i)",
        "total = 0",
    ];
    assert_eq!(lines(&reached), code);
    assert!(missed.contains_key("return None") && missed.contains_key("def g(x):"));
    assert!(
        !missed
            .keys()
            .any(|line| line.is_empty() || line.starts_with('#'))
    );
}

#[test]
fn the_way_back_ends_at_the_arguments() {
    let sampling = Sampling {
        direction: Direction::Inverse,
        extent: Extent::Run,
        seed: 3,
    };
    let trace = example();
    let mut calls = 0;
    for number in 0..200 {
        let document = sample(&trace, &sampling, number);
        assert!(!document.context.contains("main"), "{}", document.context);
        let Some(Run::Inverse(walk)) = document.run else {
            panic!("not an inverse run");
        };
        assert!(matches!(walk.start, InverseFrame::Return { .. }));
        let Some(InverseFrame::Call { locals, .. }) = walk.frames().last() else {
            panic!("the last state is no call");
        };
        assert_eq!(locals.get("n").map(|value| &**value), Some("30"));
        assert!(matches!(walk.stop, Stop::Exit(_, InverseExit::Entry)));
        let is_call = |action: &InverseAction| *action == InverseAction::StepCall;
        calls += usize::from(actions(&walk).iter().any(is_call));
    }
    // The row without step calls is drawn for half of the documents; a few of the others have none.
    assert!((70..110).contains(&calls), "{calls}");
}

/// One of the calls of a run, each as likely as the next.
#[test]
fn a_document_can_be_of_one_call() {
    let sampling = Sampling {
        direction: Direction::Inverse,
        extent: Extent::Call,
        seed: 5,
    };
    let trace = example();
    let mut arguments: HashMap<String, u32> = HashMap::new();
    for number in 0..620 {
        let Some(Run::Inverse(walk)) = sample(&trace, &sampling, number).run else {
            panic!("not an inverse run");
        };
        let Some(InverseFrame::Call { locals, .. }) = walk.frames().last() else {
            panic!("the last state is no call");
        };
        let all = locals.iter().map(|(name, value)| format!("{name}={value}"));
        *arguments.entry(all.collect()).or_default() += 1;
    }
    assert_eq!(arguments.len(), 31);
    assert!(arguments.values().all(|&count| count > 5), "{arguments:?}");
}

#[test]
fn an_end_says_how_the_run_ended() {
    let cases = [
        (End::Finished, Some(Exit::Normal)),
        (End::Exited(0), Some(Exit::Normal)),
        (End::Exited(1), Some(Exit::Error)),
        (End::Raised("KeyError()".to_owned()), Some(Exit::Error)),
        (End::OutOfMemory, Some(Exit::Error)),
        (End::Crashed("signal 11".to_owned()), Some(Exit::Error)),
        (End::Timeout(1.0), Some(Exit::Never)),
        (End::MaxEvents(9), None),
    ];
    for (end, exit) in cases {
        assert_eq!(Exit::of(&end), exit, "{end:?}");
    }
}

/// Only what a function would do that makes the call is wrapped in one.
#[test]
fn main_is_made_of_calls_that_are_known() {
    let is_wrapped = |source: &str, table: &str| {
        let trace = literate::trace(source, table);
        with_main(&trace).events.len() > trace.events.len()
    };
    let call = "call f 1 {\"n\": \"1\"}\n";
    let run = |entry: &str, rest: &str| format!("entry {entry}\n{call}{rest}");
    let returns = "return f 1 \"1\"\n";
    let plain = "def f(n): return n\n";
    assert!(is_wrapped(plain, &run("f(1)", returns)));
    assert!(is_wrapped(plain, &run("K.f(1)", returns)));
    assert!(is_wrapped(plain, &run("f(1)", "end max_events 1")));
    let raised = "exception f 1 \"KeyError()\"\nunwind f 1\nend raised KeyError()";
    assert!(is_wrapped(plain, &run("f(1)", raised)));

    // Arguments that nobody knows, or that would not end with the line.
    assert!(!is_wrapped(plain, &run("f", returns)));
    assert!(!is_wrapped(plain, &run("f(1 # one)", returns)));
    // What the call of another function or of a class gives is not what this one gave.
    assert!(!is_wrapped(plain, &run("g(1)", returns)));
    assert!(!is_wrapped(plain, &run("f.<locals>.f(1)", returns)));
    // No end, or another than the recording claims.
    assert!(!is_wrapped(plain, &run("f(1)", "unwind f 1")));
    assert!(!is_wrapped(
        plain,
        &run("f(1)", "unwind f 1\nend raised KeyError()")
    ));
    // Code that runs when it is asked to; code that is no function.
    for source in [
        "async def f(n): return n\n",
        "@cached\nasync  def f(n):\n    return n\n",
        "def f(n):\n    if n:\n        yield n\n",
        "def f(n): yield(n)\n",
        "class f: n = 1\n",
        "f = lambda n: n\n",
    ] {
        assert!(!is_wrapped(source, &run("f(1)", returns)), "{source}");
    }
    let other = "def f(n):\n    return n\n\ndef g():\n    yield 1\n";
    assert!(is_wrapped(other, &run("f(1)", returns)));
}

/// The same walk on every machine and in every version, or the seed of a data set means nothing.
#[test]
fn a_sample_is_what_it_was() {
    let shown: Vec<String> = forward_walks(6)
        .iter()
        .map(|walk| {
            let actions = actions(walk);
            let tokens: Vec<_> = actions.iter().take(6).map(|a| a.token()).collect();
            format!("{} {}", actions.len(), tokens.join(" "))
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    1 <|breakpoint|>
    8 <|step_into|> <|step_into|> <|step_into|> <|step_over|> <|step_over|> <|step_return|>
    111 <|step_into|> <|step_into|> <|step_into|> <|step_into|> <|step_over|> <|step_into|>
    2 <|step_return|> <|step_into|>
    7 <|step_into|> <|step_into|> <|step_into|> <|breakpoint|> <|step_return|> <|step_into|>
    114 <|step_over|> <|step_into|> <|step_over|> <|step_into|> <|step_over|> <|step_into|>
    ");
}
