//! The six defects measured in the public reference debugger for code world
//! models, each as the test that it would fail.

use cwm_debug::{PredictError, Reply};

use crate::fake::{CALLS, CALLS_RUN, Fake, after, calls, console, program, say};

/// There, the caller's unchanged values printed as `..` after a call.
#[test]
fn defect_1_unchanged_values_are_resolved_after_a_callee_returned() {
    let mut console = calls();
    after(&mut console, &["step", "next"]);
    let text = say(&mut console, "locals");
    insta::assert_snapshot!(text, @r"
      a = 3  (given)
    * b = 4  (p 0.98)
    ");
    assert!(!text.contains(".."), "{text}");
}

/// There, `return CODE` was shown as `return COD`: a suffix was removed as a
/// set of characters.
#[test]
fn defect_2_source_lines_are_shown_to_the_letter() {
    let source = "def f():\n    return CODE\n";
    let fake = Fake::new("call f 1 0 0\nline f 2 0 0\nreturn f 2 0 0 -> 1");
    let mut console = console(program(source, "f", ""), fake);
    let Reply::Frame(reply) = console.execute("step") else {
        panic!("no frame")
    };
    assert_eq!(reply.source.as_deref(), Some("    return CODE"));
}

/// There, the line number was that of the first line with the same text.
#[test]
fn defect_3_equal_lines_in_two_functions_keep_their_numbers() {
    let source = "def g(x):\n    return x + 1\ndef f(x):\n    return x + 1\n";
    let fake = Fake::new("call f 3 0 0 x=1!\nline f 4 0 0 x=..\nreturn f 4 0 0 -> 2");
    let mut console = console(program(source, "f", "1"), fake);
    let Reply::Frame(reply) = console.execute("step") else {
        panic!("no frame")
    };
    assert_eq!(
        (reply.frame.line, reply.source.as_deref()),
        (4, Some("    return x + 1"))
    );
    insta::assert_snapshot!(say(&mut console, "where"), @r"-> line 4 in f  | return x + 1");
}

/// There, an edit made after `back` was ignored, because the tokens of the
/// frames undone were sent again.
#[test]
fn defect_4_an_edit_after_back_is_what_the_prediction_goes_on_from() {
    let mut console = calls();
    after(
        &mut console,
        &["step", "next", "step", "back", "set b = 10", "step"],
    );
    insta::assert_snapshot!(say(&mut console, "continue"), @r"
    the run ends here; `back`, `reset`, `set` and `switch` still work
    return from f, line 7  (depth 0)  frame 7  fork 1  p 0.97
    -> 7 |     return b * 2
        returned 20  (p 0.98)
    ");
    // What was undone is still on the original run, and nowhere else.
    after(&mut console, &["switch 0", "continue"]);
    let Reply::Frame(reply) = console.execute("continue") else {
        panic!("no frame")
    };
    assert_eq!(
        reply.frame.value.map(|(text, _)| text.to_string()),
        Some("8".into())
    );
}

/// There, a reply without an end of frame, or an end where a frame was
/// forced, was an IndexError.
#[test]
fn defect_5_a_failed_prediction_is_an_answer() {
    let errors = [
        PredictError::ContextFull { limit: 2048 },
        PredictError::Malformed("no end of frame".into()),
        PredictError::NothingLegal("the text ended".into()),
        PredictError::Other("the weights are gone".into()),
    ];
    for error in errors {
        let fake = Fake::new(CALLS_RUN).with_fault((0, 3), error.clone());
        let mut console = console(program(CALLS, "f", "3"), fake);
        let Reply::Frame(reply) = console.execute("continue") else {
            panic!("no frame")
        };
        assert_eq!(
            (reply.index, reply.passed),
            (3, 3),
            "the frames before it are kept"
        );
        assert!(say(&mut console, "p x").contains("x = 3"));
        after(&mut console, &["back", "step", "where"]);
        // The fault was a passing one: the same question has an answer now.
        assert!(
            say(&mut console, "continue").contains("returned 8"),
            "{error}"
        );
    }
}

/// There, `back` after `next` over a call landed inside the callee and showed
/// its locals.
#[test]
fn defect_6_back_undoes_a_command_not_a_frame() {
    let mut console = calls();
    let before = say(&mut console, "step");
    after(&mut console, &["next"]);
    assert_eq!(say(&mut console, "back"), before);
}
