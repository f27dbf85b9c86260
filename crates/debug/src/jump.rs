//! Jumps: where an action leads, named at once by the predictor without a step on the way.
//!
//! A jump is an answer, not a place: the user stays where they are, since nothing of what lies between is known. Only over
//! the calls of a line one can go (`leap`): the activation that one stands in is known then, and those below are as they were.

use std::sync::Arc;

use cwm_trace::Event;
use cwm_trace::live::{Ahead, Behind, Exit, Jump};
use serde::Serialize;

/// Where a jump leads.
#[derive(Clone, Debug, PartialEq)]
pub struct Landed {
    /// Where.
    pub landing: Landing,
    /// How probable the predictor finds it, from 0 to 1.
    pub probability: f32,
}

/// Where a jump leads.
#[derive(Clone, Debug, PartialEq)]
pub enum Landing {
    /// To a state.
    State {
        /// Name of the function it is in.
        function: String,
        /// What happens there: a line that is about to run with all locals, a call with its arguments, or a value.
        event: Event,
    },
    /// Out of the run.
    Exit(Exit),
}

/// A jump and where it leads, to be shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JumpReply {
    /// The action, as typed.
    pub action: String,
    /// `call`, `line`, `return` and so on; `normal` or `error` where the run ends.
    pub kind: &'static str,
    /// Name of the function; `None` where the run ends.
    pub function: Option<String>,
    /// Its line; `None` where the run ends, and for `out`, which names the value alone.
    pub line: Option<u32>,
    /// Text of the line.
    pub source: Option<String>,
    /// Names and values, in order.
    pub locals: Vec<(Arc<str>, Arc<str>)>,
    /// What is returned, yielded or raised.
    pub value: Option<Arc<str>>,
    /// How probable the predictor finds it.
    pub probability: f32,
}

impl JumpReply {
    pub(crate) fn new(jump: Jump, landed: Landed, source: impl Fn(u32) -> Option<String>) -> Self {
        let reply = Self {
            action: action(jump),
            kind: "normal",
            function: None,
            line: None,
            source: None,
            locals: Vec::new(),
            value: None,
            probability: landed.probability,
        };
        match landed.landing {
            Landing::Exit(Exit::Normal) => reply,
            Landing::Exit(Exit::Error) => Self {
                kind: "error",
                ..reply
            },
            Landing::State { function, event } => {
                let line = (jump != Jump::Ahead(Ahead::Leave)).then_some(event.line);
                Self {
                    kind: event.kind.name(),
                    function: Some(function),
                    line,
                    source: line.and_then(source),
                    locals: event
                        .locals
                        .iter()
                        .map(|local| (local.name.clone(), local.value.repr.clone()))
                        .collect(),
                    value: event.value.map(|value| value.repr),
                    ..reply
                }
            }
        }
    }

    /// What is there in a few words, such as `go, line 5` or `the run ends by itself`.
    pub(crate) fn place(&self) -> String {
        let Some(function) = &self.function else {
            return match self.kind {
                "error" => "the run ends by an exception".to_owned(),
                _ => "the run ends by itself".to_owned(),
            };
        };
        let place = match self.kind {
            "line" => function.clone(),
            kind => format!("{kind} of {function}"),
        };
        match self.line {
            Some(line) => format!("{place}, line {line}"),
            None => place,
        }
    }
}

/// The action as the user types it behind `jump`.
fn action(jump: Jump) -> String {
    match jump {
        Jump::Ahead(Ahead::Over) => "over".to_owned(),
        Jump::Ahead(Ahead::Leave) => "out".to_owned(),
        Jump::Ahead(Ahead::Until(line)) => format!("to {line}"),
        Jump::Ahead(Ahead::Finish) => "end".to_owned(),
        Jump::Behind(Behind::Before) => "before".to_owned(),
        Jump::Behind(Behind::Into) => "into".to_owned(),
        Jump::Behind(Behind::Input) => "input".to_owned(),
    }
}

/// The actions, for a message.
const KNOWN: &str = "over, out, to LINE, end, before, into and input";

/// Reads what [`action`] writes.
pub(crate) fn parse(text: &str) -> Result<Jump, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    Ok(match words[..] {
        [] => return Err(format!("the action is missing; there are {KNOWN}")),
        ["over"] => Jump::Ahead(Ahead::Over),
        ["out"] => Jump::Ahead(Ahead::Leave),
        ["to", line] => match line.parse() {
            Ok(line) => Jump::Ahead(Ahead::Until(line)),
            Err(_) => return Err(format!("`{line}` is not a line number")),
        },
        ["end"] => Jump::Ahead(Ahead::Finish),
        ["before"] => Jump::Behind(Behind::Before),
        ["into"] => Jump::Behind(Behind::Into),
        ["input"] => Jump::Behind(Behind::Input),
        _ => return Err(format!("`{text}` is no action; there are {KNOWN}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in ["over", "out", "to 12", "end", "before", "into", "input"] {
            assert_eq!(parse(text).map(action).as_deref(), Ok(text));
        }
        assert_eq!(parse("to x"), Err("`x` is not a line number".to_owned()));
        for text in ["away", "to", "over 2", ""] {
            let error = parse(text).expect_err(text);
            assert!(error.ends_with(KNOWN), "{error}");
        }
    }
}
