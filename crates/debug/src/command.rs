//! The command language: one table of commands, from which parsing, help and
//! suggestions all follow.

use cwm_trace::live::Jump;

use crate::breakpoint::{Condition, is_name};
use crate::debugger::Motion;
use crate::jump;

/// What the user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Go forward.
    Move {
        /// How.
        motion: Motion,
        /// How many times.
        count: usize,
    },
    /// The last `Move` again.
    Repeat,
    /// Undo the last command that moved.
    Back,
    /// Name at once where an action leads, and stay.
    Jump(Jump),
    /// Go over the calls of a line without their frames.
    Leap,
    /// Add a breakpoint.
    Break {
        /// Its line.
        line: u32,
        /// When it stops.
        condition: Option<Condition>,
    },
    /// List breakpoints.
    Breakpoints,
    /// Delete a breakpoint, or all if `None`.
    Delete(Option<u32>),
    /// Show one variable in full, or all and the value if `None`.
    Print(Option<String>),
    /// Show all variables.
    Locals,
    /// Show the call stack.
    Where,
    /// Show source around a line, or around the current one if `None`.
    List(Option<u32>),
    /// Fork with a variable replaced.
    Set {
        /// The variable.
        name: String,
        /// Its new value, as Python would print it.
        value: String,
    },
    /// List forks.
    Forks,
    /// Go to a fork.
    Switch(usize),
    /// Compare with a real run.
    Verify,
    /// Go to the first frame.
    Reset,
    /// Explain all commands, or one.
    Help(Option<String>),
    /// End the session.
    Quit,
}

/// Why a line is no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No command has this name.
    #[error("unknown command `{word}`; {}", hint(.suggestion.as_deref()))]
    Unknown {
        /// What was typed.
        word: String,
        /// What may have been meant.
        suggestion: Option<String>,
    },
    /// The command takes other arguments.
    #[error("{problem}; usage: `{usage}`")]
    Usage {
        /// What is wrong.
        problem: String,
        /// The right form.
        usage: String,
    },
}

fn hint(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(suggestion) => format!("did you mean `{suggestion}`?"),
        None => "`help` lists the commands".into(),
    }
}

/// A command of the language.
#[derive(Debug)]
pub struct Spec {
    /// Its names, the full one first.
    pub names: &'static [&'static str],
    /// What follows the name.
    pub arguments: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Reads what follows the name; on failure, says what is wrong.
    parse: fn(&str) -> Result<Command, String>,
}

impl Spec {
    /// Name and arguments, as to be typed.
    pub fn usage(&self) -> String {
        format!("{} {}", self.names[0], self.arguments)
            .trim_end()
            .to_string()
    }
}

/// Every command, in the order in which help shows them.
pub const COMMANDS: &[Spec] = &[
    Spec {
        names: &["step", "s"],
        arguments: "[COUNT]",
        summary: "go one frame on, into calls",
        parse: |text| motion(Motion::Step, text),
    },
    Spec {
        names: &["next", "n"],
        arguments: "[COUNT]",
        summary: "go to the next line here, over all calls",
        parse: |text| motion(Motion::Next, text),
    },
    Spec {
        names: &["out", "o", "finish"],
        arguments: "",
        summary: "go to where this function returns",
        parse: |text| {
            none(
                text,
                Command::Move {
                    motion: Motion::Out,
                    count: 1,
                },
            )
        },
    },
    Spec {
        names: &["continue", "c"],
        arguments: "",
        summary: "go on to a breakpoint or the end",
        parse: |text| {
            none(
                text,
                Command::Move {
                    motion: Motion::Continue,
                    count: 1,
                },
            )
        },
    },
    Spec {
        names: &["until"],
        arguments: "LINE",
        summary: "go on to a line, in any function",
        parse: |text| {
            let motion = Motion::Until(line(text)?);
            Ok(Command::Move { motion, count: 1 })
        },
    },
    Spec {
        names: &["back", "u"],
        arguments: "",
        summary: "undo the last command that moved",
        parse: |text| none(text, Command::Back),
    },
    Spec {
        names: &["jump", "j"],
        arguments: "ACTION",
        summary: "name at once where over, out, to LINE, end, before, into or input leads; you stay",
        parse: |text| Ok(Command::Jump(jump::parse(text)?)),
    },
    Spec {
        names: &["leap"],
        arguments: "",
        summary: "go where `jump over` leads, on a new fork: past this line's calls without their frames",
        parse: |text| none(text, Command::Leap),
    },
    Spec {
        names: &["break", "b"],
        arguments: "[LINE [if NAME == VALUE]]",
        summary: "stop at a line (== != < <= > >=); alone: list breakpoints",
        parse: breakpoint,
    },
    Spec {
        names: &["delete", "d"],
        arguments: "NUMBER|all",
        summary: "delete a breakpoint",
        parse: |text| match text {
            "all" => Ok(Command::Delete(None)),
            _ => Ok(Command::Delete(Some(number(
                text,
                "a breakpoint number or `all`",
            )?))),
        },
    },
    Spec {
        names: &["breakpoints"],
        arguments: "",
        summary: "list breakpoints",
        parse: |text| none(text, Command::Breakpoints),
    },
    Spec {
        names: &["print", "p"],
        arguments: "[NAME]",
        summary: "show a variable in full; alone: all of them",
        parse: |text| Ok(Command::Print((!text.is_empty()).then(|| text.into()))),
    },
    Spec {
        names: &["locals"],
        arguments: "",
        summary: "show all variables of this function",
        parse: |text| none(text, Command::Locals),
    },
    Spec {
        names: &["where", "w", "bt"],
        arguments: "",
        summary: "show the call stack",
        parse: |text| none(text, Command::Where),
    },
    Spec {
        names: &["list", "l"],
        arguments: "[LINE]",
        summary: "show the source around here, or around a line",
        parse: |text| match text {
            "" => Ok(Command::List(None)),
            _ => Ok(Command::List(Some(line(text)?))),
        },
    },
    Spec {
        names: &["set"],
        arguments: "NAME = VALUE",
        summary: "what if: fork here with another value",
        parse: set,
    },
    Spec {
        names: &["forks"],
        arguments: "",
        summary: "list the forks made by `set`",
        parse: |text| none(text, Command::Forks),
    },
    Spec {
        names: &["switch"],
        arguments: "NUMBER",
        summary: "go to a fork; 0 is the original run",
        parse: |text| Ok(Command::Switch(number(text, "a fork number")?)),
    },
    Spec {
        names: &["verify"],
        arguments: "",
        summary: "RUN the program and compare it with the prediction",
        parse: |text| none(text, Command::Verify),
    },
    Spec {
        names: &["reset"],
        arguments: "",
        summary: "go back to the first frame",
        parse: |text| none(text, Command::Reset),
    },
    Spec {
        names: &["help", "h", "?"],
        arguments: "[COMMAND]",
        summary: "explain the commands",
        parse: |text| Ok(Command::Help((!text.is_empty()).then(|| text.into()))),
    },
    Spec {
        names: &["quit", "q", "exit"],
        arguments: "",
        summary: "leave",
        parse: |text| none(text, Command::Quit),
    },
];

/// The command called `name`.
pub fn find(name: &str) -> Option<&'static Spec> {
    COMMANDS.iter().find(|spec| spec.names.contains(&name))
}

/// Reads a line. An empty one asks for the last motion again.
///
/// # Errors
///
/// [`ParseError`], with what to type instead.
pub fn parse(text: &str) -> Result<Command, ParseError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Command::Repeat);
    }
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match find(word) {
        Some(spec) => (spec.parse)(rest.trim()).map_err(|problem| ParseError::Usage {
            problem,
            usage: spec.usage(),
        }),
        None => Err(ParseError::Unknown {
            word: word.into(),
            suggestion: suggest(text, word),
        }),
    }
}

fn none(text: &str, command: Command) -> Result<Command, String> {
    if text.is_empty() {
        Ok(command)
    } else {
        Err(format!("`{text}` is not understood here"))
    }
}

fn number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    match text {
        "" => Err(format!("{what} is missing")),
        _ => text.parse().map_err(|_| format!("`{text}` is not {what}")),
    }
}

fn line(text: &str) -> Result<u32, String> {
    number(text, "a line number")
}

fn motion(motion: Motion, text: &str) -> Result<Command, String> {
    let count = if text.is_empty() {
        1
    } else {
        number(text, "a count")?
    };
    if count == 0 {
        return Err("a count starts at 1".into());
    }
    Ok(Command::Move { motion, count })
}

fn breakpoint(text: &str) -> Result<Command, String> {
    if text.is_empty() {
        return Ok(Command::Breakpoints);
    }
    let (number, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let condition = match rest
        .strip_prefix("if")
        .filter(|r| r.starts_with(char::is_whitespace))
    {
        Some(text) => Some(Condition::parse(text).ok_or_else(|| {
            format!(
                "`{}` is not one comparison of a variable with a value",
                text.trim()
            )
        })?),
        None if rest.is_empty() => None,
        None => return Err(format!("`{rest}` is not a condition")),
    };
    Ok(Command::Break {
        line: line(number)?,
        condition,
    })
}

fn set(text: &str) -> Result<Command, String> {
    let (name, value) = text.split_once('=').ok_or("`=` is missing")?;
    let (name, value) = (name.trim(), value.trim());
    if !is_name(name) {
        return Err(format!("`{name}` is not the name of a variable"));
    }
    if value.is_empty() || value.starts_with('=') {
        return Err(format!("no value is given for `{name}`"));
    }
    Ok(Command::Set {
        name: name.into(),
        value: value.into(),
    })
}

/// What an unknown command may have meant: an assignment, or a name with a
/// small mistake in it.
fn suggest(text: &str, word: &str) -> Option<String> {
    if let Ok(Command::Set { name, value }) = set(text) {
        return Some(format!("set {name} = {value}"));
    }
    let word = word.to_lowercase();
    let names = COMMANDS
        .iter()
        .flat_map(|spec| spec.names)
        .filter(|name| name.len() > 1);
    let (distance, name) = names.map(|name| (edit_distance(&word, name), name)).min()?;
    let begun = || {
        COMMANDS
            .iter()
            .find(|spec| spec.names[0].starts_with(&word))
    };
    // More than half a word wrong is another word, not a slip.
    let slip = distance <= 2 && distance * 2 <= name.len();
    if slip {
        Some((*name).into())
    } else {
        begun().map(|spec| spec.names[0].into())
    }
}

/// Insertions, deletions and replacements between two words.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(count: usize) -> Command {
        Command::Move {
            motion: Motion::Step,
            count,
        }
    }

    #[test]
    fn commands_have_aliases_and_arguments() {
        assert_eq!(parse("s"), Ok(step(1)));
        assert_eq!(parse("  step   3 "), Ok(step(3)));
        assert_eq!(parse(""), Ok(Command::Repeat));
        assert_eq!(parse("u"), Ok(Command::Back));
        assert_eq!(parse("b"), Ok(Command::Breakpoints));
        assert_eq!(
            parse("b 4"),
            Ok(Command::Break {
                line: 4,
                condition: None
            })
        );
        assert_eq!(
            parse("b 4 if n == 2"),
            Ok(Command::Break {
                line: 4,
                condition: Condition::parse("n == 2")
            })
        );
        assert_eq!(parse("d all"), Ok(Command::Delete(None)));
        assert_eq!(parse("p total"), Ok(Command::Print(Some("total".into()))));
        let until = Command::Move {
            motion: Motion::Until(9),
            count: 1,
        };
        assert_eq!(parse("until 9"), Ok(until));
    }

    #[test]
    fn set_takes_any_value_after_the_first_equals_sign() {
        let set = |name: &str, value: &str| {
            Ok(Command::Set {
                name: name.into(),
                value: value.into(),
            })
        };
        assert_eq!(parse("set x=3"), set("x", "3"));
        assert_eq!(parse("set x = 'a = b'"), set("x", "'a = b'"));
    }

    #[test]
    fn mistakes_say_what_is_wrong() {
        let message = |text| parse(text).unwrap_err().to_string();
        assert_eq!(
            message("step x"),
            "`x` is not a count; usage: `step [COUNT]`"
        );
        assert_eq!(
            message("step 0"),
            "a count starts at 1; usage: `step [COUNT]`"
        );
        assert_eq!(
            message("until"),
            "a line number is missing; usage: `until LINE`"
        );
        assert_eq!(
            message("quit now"),
            "`now` is not understood here; usage: `quit`"
        );
        assert_eq!(
            message("set 3 = x"),
            "`3` is not the name of a variable; usage: `set NAME = VALUE`"
        );
        assert_eq!(
            message("b 4 if f(x)"),
            "`f(x)` is not one comparison of a variable with a value; \
             usage: `break [LINE [if NAME == VALUE]]`"
        );
    }

    #[test]
    fn unknown_commands_get_a_suggestion() {
        let suggestion = |text| match parse(text).unwrap_err() {
            ParseError::Unknown { suggestion, .. } => suggestion,
            other => panic!("{other}"),
        };
        assert_eq!(suggestion("stpe"), Some("step".into()));
        assert_eq!(suggestion("contine"), Some("continue".into()));
        assert_eq!(suggestion("brekpoints"), Some("breakpoints".into()));
        assert_eq!(suggestion("STEP"), Some("step".into()));
        assert_eq!(suggestion("con"), Some("continue".into()));
        assert_eq!(suggestion("x = 3"), Some("set x = 3".into()));
        assert_eq!(suggestion("frobnicate"), None);
        assert_eq!(suggestion("xy"), None);
    }

    #[test]
    fn names_are_unique_and_all_work_as_help_topics() {
        let names: Vec<_> = COMMANDS.iter().flat_map(|spec| spec.names).collect();
        for (index, name) in names.iter().enumerate() {
            assert!(!names[..index].contains(name), "{name}");
            assert!(find(name).is_some());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(text in "\\PC*") {
            let _ = parse(&text);
        }

        #[test]
        fn no_argument_panics(index in 0..COMMANDS.len(), text in "\\PC{0,12}") {
            let _ = parse(&format!("{} {text}", COMMANDS[index].names[0]));
        }
    }
}
