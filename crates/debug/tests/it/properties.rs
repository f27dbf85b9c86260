//! What holds after any sequence of commands.

use cwm_debug::{Options, Origin, PredictError, Reply, Style, command, render};
use proptest::prelude::*;

use crate::fake::{CALLS, CALLS_EDITED, CALLS_RUN, Fake, FakeReality, calls, program};

/// Commands that move, ask, fork and fail.
fn any_command() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "step",
        "step 3",
        "next",
        "next 2",
        "out",
        "continue",
        "until 3",
        "until 7",
        "break 2",
        "break 7 if b == 10",
        "delete 1",
        "delete all",
        "breakpoints",
        "print",
        "print x",
        "locals",
        "where",
        "list",
        "set b = 10",
        "set a = 1",
        "forks",
        "switch 0",
        "switch 1",
        "verify",
        "reset",
        "back",
        "help",
        "",
        "nonsense",
        "print ..",
    ])
}

fn place(reply: &Reply) -> Option<(usize, usize, String)> {
    match reply {
        Reply::Frame(reply) => Some((reply.fork, reply.index, format!("{:?}", reply.frame))),
        _ => None,
    }
}

/// The text without ANSI colour.
fn without_colour(text: &str) -> String {
    let mut plain = String::new();
    for (index, part) in text.split('\u{1b}').enumerate() {
        let from = if index == 0 {
            0
        } else {
            part.find('m').map_or(0, |end| end + 1)
        };
        plain.push_str(&part[from..]);
    }
    plain
}

proptest! {
    #[test]
    fn back_undoes_exactly_one_command(
        before in prop::collection::vec(any_command(), 0..12),
        last in any_command(),
    ) {
        let mut console = calls();
        for command in before {
            console.execute(command);
        }
        // `list 1` and the like say nothing of the place, so take it from the
        // frame that the console would welcome the user with.
        let here = place(&console.welcome());
        let moved = last != "back" && {
            console.execute(last);
            place(&console.welcome()) != here
        };
        if moved {
            console.execute("back");
            prop_assert_eq!(place(&console.welcome()), here);
        }
    }

    #[test]
    fn every_reply_renders_and_serialises(
        commands in prop::collection::vec(any_command(), 0..20),
    ) {
        let fake = Fake::new(CALLS_RUN)
            .with_edit((0, 6), "b", "10", CALLS_EDITED)
            .with_fault((0, 4), PredictError::Interrupted);
        let reality = FakeReality::new(CALLS_RUN);
        let options = Options { budget: 3, ..Options::default() };
        let mut console =
            cwm_debug::Console::new(program(CALLS, "f", "3"), fake, reality, options).unwrap();
        for line in commands {
            let reply = console.execute(line);
            let plain = render(&reply, Style::Plain);
            prop_assert!(plain.is_empty() || plain.ends_with('\n'));
            prop_assert_eq!(without_colour(&render(&reply, Style::Ansi)), plain);
            prop_assert!(serde_json::to_value(&reply).unwrap()["reply"].is_string());
            prop_assert_eq!(command::parse(line).is_err() && !reply.is_error(), false);
        }
    }

    #[test]
    fn only_the_user_gives_values(commands in prop::collection::vec(any_command(), 0..20)) {
        let mut console = calls();
        for line in commands {
            console.execute(line);
            let Reply::Frame(reply) = console.welcome() else { unreachable!() };
            for variable in &reply.frame.locals {
                let given = variable.origin == Origin::Given;
                let by_user = &*variable.name == "a" || (reply.fork != 0 && reply.index == 6);
                prop_assert!(!given || by_user, "{:?}", variable);
            }
        }
    }

    #[test]
    fn no_line_breaks_the_console(lines in prop::collection::vec("\\PC*", 0..8)) {
        let mut console = calls();
        for line in lines {
            let _ = render(&console.execute(&line), Style::Plain);
        }
    }
}
