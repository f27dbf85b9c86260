//! What the reference debugger cannot do, and what no predictor may bring
//! about.

use cwm_debug::{
    Console, Debugger, Motion, Options, PredictError, Reply, RunEnd, Stop, compare, predict_all,
};

use crate::fake::{
    CALLS, CALLS_RUN, Endless, Fake, FakeReality, after, calls, console, dialogue, frames, program,
    say,
};

/// Stands at the frame with this index, or fails.
fn index<P: cwm_debug::Predictor, R: cwm_debug::Reality>(
    console: &mut Console<P, R>,
    command: &str,
) -> usize {
    match console.execute(command) {
        Reply::Frame(reply) => reply.index,
        other => panic!("{command}: {other:?}"),
    }
}

const NESTED: &str = "
    call f 3 0 0 x=1!
    line f 4 0 0 x=..
    call g 1 1 1 x=1
    line g 2 1 1 x=..
    return g 2 1 1 -> 2
    call h 1 1 2 x=2
    line h 2 1 2 x=..
    return h 2 1 2 -> 3
    line f 5 0 0 x=.. y=3
    return f 5 0 0 -> 3
";

fn nested() -> Console<Fake, FakeReality> {
    let source = "def g(x):\n    return x + 1\ndef f(x):\n    y = h(g(x))\n    return y\n";
    console(program(source, "f", "1"), Fake::new(NESTED))
}

#[test]
fn next_passes_every_call_of_a_line() {
    let mut console = nested();
    after(&mut console, &["step"]);
    assert_eq!(index(&mut console, "next"), 8);
}

#[test]
fn next_from_a_return_goes_to_the_caller_not_into_the_next_call() {
    let mut console = nested();
    after(&mut console, &["step 4"]);
    assert_eq!(index(&mut console, "next"), 8);
}

#[test]
fn out_shows_the_value_and_then_climbs() {
    let mut console = nested();
    after(&mut console, &["step 2"]);
    assert_eq!(index(&mut console, "out"), 4);
    assert_eq!(index(&mut console, "out"), 9);
}

#[test]
fn recursion_is_told_apart_by_depth() {
    let script = "
        call f 1 0 0 n=1!
        line f 2 0 0 n=..
        call f 1 1 1 n=0
        line f 2 1 1 n=..
        return f 2 1 1 -> 0
        line f 3 0 0 n=.. r=0
        return f 3 0 0 -> 1
    ";
    let source = "def f(n):\n    r = n and f(n - 1)\n    return r + 1\n";
    let mut console = console(program(source, "f", "1"), Fake::new(script));
    after(&mut console, &["step"]);
    assert_eq!(index(&mut console, "next"), 5);
    after(&mut console, &["back", "step 2"]);
    insta::assert_snapshot!(say(&mut console, "where"), @r"
    -> line 2 in f  | r = n and f(n - 1)
       line 2 in f  | r = n and f(n - 1)
    ");
}

#[test]
fn a_generator_is_left_and_entered_again() {
    let script = "
        call f 4 0 0
        line f 5 0 0
        call g 1 1 1
        line g 2 1 1
        yield g 2 1 1 -> 1
        line f 6 0 0 x=1
        line f 5 0 0 x=1
        resume g 2 1 1
        line g 3 1 1
        return g 3 1 1 -> None
        return f 5 0 0 -> None
    ";
    let source = "def g():\n    yield 1\n    pass\ndef f():\n    for x in g():\n        pass\n";
    let mut console = console(program(source, "f", ""), Fake::new(script));
    after(&mut console, &["step 3"]);
    assert_eq!(index(&mut console, "out"), 4);
    assert_eq!(index(&mut console, "next"), 5);
    assert_eq!(index(&mut console, "next"), 6);
    assert_eq!(index(&mut console, "next"), 10);
}

#[test]
fn no_motion_runs_forever() {
    for command in ["next", "out", "continue", "until 1", "step 1000000"] {
        let options = Options {
            budget: 50,
            ..Options::default()
        };
        let program = program("def f(): f()\n", "f", "");
        let mut console = Console::new(program, Endless, FakeReality::default(), options).unwrap();
        let text = say(&mut console, command);
        assert!(
            text.starts_with("stopped after 50 frames"),
            "{command}: {text}"
        );
        // Repeating it goes on from there.
        assert_eq!(index(&mut console, ""), 100, "{command}");
        assert_eq!(index(&mut console, "back"), 50, "{command}");
    }
}

#[test]
fn the_end_of_the_run_is_not_the_end_of_the_session() {
    let mut console = calls();
    insta::assert_snapshot!(
        dialogue(&mut console, &["continue", "step", "u", "u", "step"]),
        @r"
        predicting f(3) in t.py: nothing is executed unless you type `verify`
        call of f, line 5  (depth 0)  frame 0  p 0.97
        -> 5 | def f(a):
            a = 3  (given)
        (cwm) continue
        the run ended
        return from f, line 7  (depth 0)  frame 7  p 0.97
        -> 7 |     return b * 2
            returned 8  (p 0.98)
        (cwm) step
        the run ends here; `back`, `reset`, `set` and `switch` still work
        return from f, line 7  (depth 0)  frame 7  p 0.97
        -> 7 |     return b * 2
            returned 8  (p 0.98)
        (cwm) u
        call of f, line 5  (depth 0)  frame 0  p 0.97
        -> 5 | def f(a):
            a = 3  (given)
        (cwm) u
        error: nothing to go back to: this is where the session began
        (cwm) step
        line 6 in f  (depth 0)  frame 1  p 0.97
        -> 6 |     b = g(a)
            a = 3  (given)
        "
    );
}

#[test]
fn a_known_future_is_not_predicted_again() {
    let fake = Fake::new(CALLS_RUN);
    let asked = fake.asked.clone();
    let mut console = console(program(CALLS, "f", "3"), fake);
    after(
        &mut console,
        &["continue", "reset", "continue", "back", "next", "next"],
    );
    assert_eq!(asked.get(), 8, "seven frames and the end");
}

#[test]
fn a_return_shows_the_variables_of_its_own_function() {
    let mut console = calls();
    after(&mut console, &["step 5"]);
    insta::assert_snapshot!(say(&mut console, "locals"), @r"
    (as before line 3 of g ran)
      x = 3  (p 0.98)
    * y = 4  (p 0.98)
    ");
    let text = say(&mut console, "set y = 1");
    assert!(text.contains("not at a return"), "{text}");
}

#[test]
fn an_interruption_keeps_the_frames_before_it() {
    let fake = Fake::new(CALLS_RUN).with_fault((0, 2), PredictError::Interrupted);
    let mut debugger = Debugger::new(fake, (1..8).collect(), 100).unwrap();
    let moved = debugger.advance(Motion::Continue, 1);
    assert_eq!(
        (moved.frames, moved.stop),
        (2, Stop::Failed(PredictError::Interrupted))
    );
    assert_eq!(debugger.advance(Motion::Continue, 1).stop, Stop::Ended);
    assert_eq!(debugger.index(), 7);
}

#[test]
fn an_unresolvable_value_fails_without_a_trace() {
    let script = "call f 1 0 0 a=1\nline f 2 0 0 a=.. b=..\n";
    let fake = Fake::new(script);
    let mut console = console(program("def f(a):\n    b = a\n", "f", "1"), fake);
    let text = say(&mut console, "step");
    assert!(text.contains("`b` is said to be unchanged"), "{text}");
    assert!(text.contains("frame 0"), "{text}");
}

#[test]
fn a_first_frame_that_fails_is_an_error_not_a_panic() {
    let result = Debugger::new(Fake::new("call f 1 0 0 a=.."), [1].into(), 10);
    assert!(matches!(result, Err(PredictError::Malformed(_))));
}

#[test]
fn breakpoints_stop_every_long_motion_in_any_function() {
    for command in ["next", "out", "continue", "until 7", "step 9"] {
        let mut console = calls();
        after(&mut console, &["step", "break 3"]);
        let text = say(&mut console, command);
        assert!(
            text.starts_with("breakpoint 1\nline 3 in g"),
            "{command}: {text}"
        );
    }
}

#[test]
fn conditions_choose_the_visit() {
    let script = "
        call f 1 0 0
        line f 2 0 0 i=0
        line f 2 0 0 i=1
        line f 2 0 0 i=2
        return f 2 0 0 -> None
    ";
    let mut console = console(program("def f():\n    loop\n", "f", ""), Fake::new(script));
    after(&mut console, &["break 2 if i == 1"]);
    assert_eq!(index(&mut console, "continue"), 2);
    after(&mut console, &["reset", "break 2 if i > 1"]);
    assert_eq!(index(&mut console, "continue"), 3);
    after(&mut console, &["delete 1", "reset"]);
    assert_eq!(index(&mut console, "continue"), 4);
}

#[test]
fn back_undoes_set_switch_and_reset_too() {
    let mut console = calls();
    let forked = ["step", "next", "set b = 10"];
    after(&mut console, &forked);
    assert_eq!(index(&mut console, "back"), 6);
    assert!(say(&mut console, "p b").contains("b = 4"));
    after(&mut console, &["switch 1", "step", "switch 0"]);
    assert_eq!(index(&mut console, "back"), 7);
    after(&mut console, &["reset"]);
    assert_eq!(index(&mut console, "back"), 7);
    // Asking is not moving, so there is nothing of it to undo.
    after(&mut console, &["where", "locals", "break 3", "forks"]);
    let path: Vec<usize> = (0..4).map(|_| index(&mut console, "back")).collect();
    assert_eq!(
        path,
        [6, 6, 1, 0],
        "the step, the switch, the next and the step"
    );
    assert!(say(&mut console, "back").starts_with("error: nothing to go back to"));
}

#[test]
fn the_program_is_executed_at_most_once_and_only_by_verify() {
    let reality = FakeReality::new(CALLS_RUN);
    let executions = reality.executions.clone();
    let fake = Fake::new(CALLS_RUN);
    let mut console =
        Console::new(program(CALLS, "f", "3"), fake, reality, Options::default()).unwrap();
    after(
        &mut console,
        &["continue", "list", "reset", "break 3", "help"],
    );
    assert_eq!(executions.get(), 0);
    let first = say(&mut console, "verify");
    assert!(first.starts_with("executed t.py for real"), "{first}");
    let second = say(&mut console, "verify");
    assert!(second.starts_with("not executed again"), "{second}");
    assert_eq!(executions.get(), 1);
}

#[test]
fn a_real_run_that_fails_can_be_tried_again() {
    let mut console = console(program(CALLS, "f", "3"), Fake::new(CALLS_RUN));
    let text = say(&mut console, "verify");
    assert_eq!(
        text,
        "error: the program could not be run: there is no real program in this test\n"
    );
    after(&mut console, &["step"]);
}

#[test]
fn predict_all_ends_at_the_end_the_limit_or_the_failure() {
    let run = predict_all(&mut Fake::new(CALLS_RUN), 8);
    assert_eq!(
        (run.frames.len(), &run.end, run.output()),
        (8, &RunEnd::Finished, Some("8"))
    );
    let run = predict_all(&mut Fake::new(CALLS_RUN), 7);
    assert_eq!(
        (run.frames.len(), &run.end, run.output()),
        (7, &RunEnd::Stopped, None)
    );
    let error = PredictError::ContextFull { limit: 9 };
    let run = predict_all(
        &mut Fake::new(CALLS_RUN).with_fault((0, 2), error.clone()),
        100,
    );
    assert_eq!((run.frames.len(), run.end), (3, RunEnd::Failed(error)));
}

#[test]
fn a_run_cut_short_differs_from_nothing_past_the_cut() {
    let whole = predict_all(&mut Fake::new(CALLS_RUN), 100);
    let real = whole.frames.clone();
    assert_eq!(compare(&whole, &real), None);
    let stopped = predict_all(&mut Fake::new(CALLS_RUN), 4);
    assert_eq!(compare(&stopped, &real), None);
    assert_eq!(
        compare(&whole, &real[..5]),
        None,
        "the recording hit a limit"
    );
    let mut early = stopped;
    early.end = RunEnd::Finished;
    assert_eq!(
        compare(&early, &real).map(|d| d.frame),
        Some(4),
        "the run ended too early"
    );
    let longer = predict_all(&mut Fake::new(&format!("{CALLS_RUN}\nline f 7 0 0")), 100);
    assert_eq!(
        compare(&longer, &real).map(|d| d.frame),
        Some(8),
        "the run ended too late"
    );
}

#[test]
fn a_fork_is_compared_up_to_its_edit() {
    let fork = "call f 5 0 0 a=9\nline f 6 0 0 a=9";
    let fake = Fake::new(CALLS_RUN)
        .with_edit((0, 0), "a", "9", fork)
        .with_edit(
            (0, 6),
            "b",
            "10",
            "line f 7 0 0 a=3! b=10\nreturn f 7 0 0 -> 20",
        );
    let reality = FakeReality::new(CALLS_RUN);
    let executions = reality.executions.clone();
    let mut console =
        Console::new(program(CALLS, "f", "3"), fake, reality, Options::default()).unwrap();
    after(&mut console, &["set a = 9", "step"]);
    let text = say(&mut console, "verify");
    assert!(text.contains("nothing to compare"), "{text}");
    assert_eq!(
        executions.get(),
        0,
        "there was no reason to execute anything"
    );
    after(
        &mut console,
        &["switch 0", "step", "next", "set b = 10", "continue"],
    );
    insta::assert_snapshot!(say(&mut console, "verify"), @r"
    executed t.py for real: 8 frames observed
    this fork was set by hand at frame 6, which the real program does not do: only what comes before is compared
    agrees so far: 6 frames as in the real run
    ");
}

#[test]
fn frames_of_a_script_are_what_they_say() {
    let run = frames(CALLS_RUN);
    assert_eq!(run.len(), 8);
    assert_eq!(run[4].variable("y").map(|v| &*v.value), Some("4"));
}
