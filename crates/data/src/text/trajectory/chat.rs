//! Trajectories as dialogs and as text, and back.

use serde::{Deserialize, Serialize};

use super::super::ParseError;
use super::{Message, Role, ToolCall};

/// What an agent saw and said, without what it cannot know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    /// The system message; may be empty.
    pub system: String,
    /// The task.
    pub task: String,
    /// What was done and seen.
    pub turns: Vec<Turn>,
}

/// A message of the agent, and the answer of the tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// What it thought; may be empty.
    pub thought: String,
    /// What it did.
    pub call: ToolCall,
    /// What came back, if anything did.
    pub observation: Option<String>,
}

const BEGIN: &str = "<|begin_of_text|>";
const HEADER: &str = "<|start_header_id|>";
const HEADER_END: &str = "<|end_header_id|>\n\n";
const END: &str = "<|eot_id|>";

const THINK: &str = "<think>\n";
const THINK_END: &str = "\n</think>\n";

impl Transcript {
    /// The messages, for a tokenizer.
    pub fn dialog(&self) -> Vec<Message> {
        let message = |role, body: &str| Message {
            role,
            body: body.to_owned(),
        };
        let mut dialog = Vec::new();
        if !self.system.is_empty() {
            dialog.push(message(Role::System, &self.system));
        }
        dialog.push(message(Role::User, &self.task));
        for turn in &self.turns {
            let call = call_text(&turn.call);
            let body = match &*turn.thought {
                "" => call,
                thought => format!("{THINK}{thought}{THINK_END}{call}"),
            };
            dialog.push(message(Role::Assistant, &body));
            if let Some(seen) = &turn.observation {
                let role = Role::Tool(turn.call.name().to_owned());
                dialog.push(message(role, seen));
            }
        }
        dialog
    }

    /// The messages as one text, special tokens by their names.
    ///
    /// What looks like a special token inside of a message gets a backslash, so that it can be told
    /// from a real one.
    pub fn render(&self) -> String {
        let mut out = BEGIN.to_owned();
        for message in self.dialog() {
            let role = match &message.role {
                Role::System => "system".to_owned(),
                Role::User => "user".to_owned(),
                Role::Assistant => "assistant".to_owned(),
                Role::Tool(name) => format!("tool: {name}"),
            };
            out.push_str(&format!("{HEADER}{role}{HEADER_END}"));
            out.push_str(&escaped(&message.body));
            out.push_str(END);
        }
        out
    }

    /// Reads a rendering back.
    ///
    /// # Errors
    /// [`ParseError`]; its lines count messages, since these have no lines of their own.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut messages = messages(text)?.into_iter().enumerate().peekable();
        let mut found = Self::default();
        if let Some((_, (_, body))) = messages.next_if(|(_, (role, _))| *role == "system") {
            found.system = body;
        }
        let task = messages.next_if(|(_, (role, _))| *role == "user");
        found.task = task.ok_or_else(|| expected(0, "the task"))?.1.1;
        while let Some((number, (role, body))) = messages.next() {
            let wrong = |what| expected(number, what);
            if role != "assistant" {
                return Err(wrong("a message of the assistant"));
            }
            let (thought, call) = match body.strip_prefix(THINK) {
                Some(rest) => rest
                    .split_once(THINK_END)
                    .ok_or_else(|| wrong("a closed thought"))?,
                None => ("", &*body),
            };
            let call = parse_call(call).ok_or_else(|| wrong("a tool call"))?;
            let wanted = format!("tool: {}", call.name());
            let seen = messages.next_if(|(_, (role, _))| *role == wanted);
            found.turns.push(Turn {
                thought: thought.to_owned(),
                call,
                observation: seen.map(|(_, (_, body))| body),
            });
        }
        Ok(found)
    }
}

fn expected(message: usize, what: &str) -> ParseError {
    ParseError {
        line: message + 1,
        expected: what.to_owned(),
    }
}

/// Roles and bodies.
fn messages(text: &str) -> Result<Vec<(&str, String)>, ParseError> {
    let rest = text.strip_prefix(BEGIN);
    let rest = rest.ok_or_else(|| expected(0, "the beginning of a text"))?;
    let mut found = Vec::new();
    let Some(rest) = rest.strip_suffix(END) else {
        return Err(expected(0, "closed by the end of a turn"));
    };
    for (number, message) in rest.split(END).enumerate() {
        let message = message.strip_prefix(HEADER);
        let parts = message.and_then(|message| message.split_once(HEADER_END));
        let (role, body) = parts.ok_or_else(|| expected(number, "a message with its header"))?;
        found.push((role, unescaped(body)));
    }
    Ok(found)
}

/// `<|` with one more backslash in the middle than it had.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, piece) in text.split('|').enumerate() {
        if at > 0 {
            if out.trim_end_matches('\\').ends_with('<') {
                out.push('\\');
            }
            out.push('|');
        }
        out.push_str(piece);
    }
    out
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, piece) in text.split('|').enumerate() {
        if at > 0 {
            if out.ends_with('\\') && out.trim_end_matches('\\').ends_with('<') {
                out.pop();
            }
            out.push('|');
        }
        out.push_str(piece);
    }
    out
}

/// A call as the agent writes it.
pub(super) fn call_text(call: &ToolCall) -> String {
    let content = match call {
        ToolCall::Bash { command } => command.clone(),
        ToolCall::Edit {
            path,
            search,
            replace,
        } => format!("{path}\n<<<<<<< SEARCH\n{search}\n=======\n{replace}\n>>>>>>> REPLACE"),
        ToolCall::Create { path, text } => format!("{path}\n{text}"),
        ToolCall::Submit { path } => path.clone(),
    };
    format!("<tool: {}>\n{content}\n</tool>", call.name())
}

fn parse_call(text: &str) -> Option<ToolCall> {
    let (name, rest) = text.strip_prefix("<tool: ")?.split_once(">\n")?;
    let content = rest.strip_suffix("\n</tool>")?;
    Some(match name {
        "bash" => ToolCall::Bash {
            command: content.to_owned(),
        },
        "submit" => ToolCall::Submit {
            path: content.to_owned(),
        },
        "create" => {
            let (path, text) = content.split_once('\n')?;
            ToolCall::Create {
                path: path.to_owned(),
                text: text.to_owned(),
            }
        }
        "edit" => {
            let (path, rest) = content.split_once("\n<<<<<<< SEARCH\n")?;
            let (search, rest) = rest.split_once("\n=======\n")?;
            ToolCall::Edit {
                path: path.to_owned(),
                search: search.to_owned(),
                replace: rest.strip_suffix("\n>>>>>>> REPLACE")?.to_owned(),
            }
        }
        _ => return None,
    })
}

/// How many marks there are that an environment takes for a call or a thought.
pub(super) fn forgeries(text: &str) -> usize {
    let marks = ["<tool:", "</tool>", "<think>", "</think>"];
    marks.iter().map(|mark| text.matches(mark).count()).sum()
}
