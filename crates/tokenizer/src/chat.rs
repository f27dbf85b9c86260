//! CWM's chat format over the [`Llama`] tokenizer.
//!
//! A message is a header with the role, an empty line, the body, and an end of
//! turn; a dialog begins with the begin-of-text token. Bodies are stripped as
//! Python's `str.strip` does, except replies of tools and the beginning of a
//! reply that the model shall go on with. No body can forge a special token,
//! except the two about thinking in the body of the assistant, which were used
//! in fine-tuning.

use std::borrow::Cow;

use crate::llama::{Llama, Special, cut};

/// The system prompt that switches reasoning on. Without it quality drops.
pub const REASONING_PROMPT: &str = "You are a helpful AI assistant. You always reason before \
    responding, using the following format:\n\n<think>\nyour internal reasoning\n</think>\n\
    your external response";

/// What a reply begins with when the model shall reason.
const THINK: &str = "<think>\n";

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub body: String,
}

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one who sets up the dialog.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool that the model called, by name.
    Tool(String),
}

impl Role {
    fn header(&self) -> Cow<'static, str> {
        match self {
            Self::System => "system".into(),
            Self::User => "user".into(),
            Self::Assistant => "assistant".into(),
            Self::Tool(name) => strip(&format!("tool: {name}")).to_owned().into(),
        }
    }
}

/// Whether the reply shall begin with reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reasoning {
    /// The prompt ends with an open `<think>`.
    On,
    /// The prompt ends with the header of the reply.
    Off,
}

/// Why a dialog cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The last message is the beginning of the reply.
    #[error(
        "reasoning cannot be opened after a reply that has begun; \
         leave the last assistant message out, or begin it with `<think>`"
    )]
    ReplyHasBegun,
    /// A tool has no name.
    #[error("a reply of a tool must name the tool")]
    NamelessTool,
}

/// Encodes a whole dialog, every message with its end: text to train on.
pub fn encode_dialog(llama: &Llama, dialog: &[Message]) -> Result<Vec<u32>, ChatError> {
    let mut ids = vec![llama.id(Special::BeginOfText)];
    for message in dialog {
        encode_message(llama, message, &mut ids)?;
    }
    Ok(ids)
}

/// Encodes a dialog up to where the model is to go on. If the last message is
/// the assistant's, it is the beginning of the reply; else the reply's header
/// is added. An empty dialog is the begin-of-text token alone.
pub fn encode_prompt(
    llama: &Llama,
    dialog: &[Message],
    reasoning: Reasoning,
) -> Result<Vec<u32>, ChatError> {
    let (prefix, whole) = match dialog {
        [] => return encode_dialog(llama, dialog),
        [
            whole @ ..,
            Message {
                role: Role::Assistant,
                body,
            },
        ] => (Some(body), whole),
        whole => (None, whole),
    };
    let mut ids = encode_dialog(llama, whole)?;
    push_header(llama, &Role::Assistant, &mut ids);
    match (prefix, reasoning) {
        (Some(_), Reasoning::On) => return Err(ChatError::ReplyHasBegun),
        (Some(body), Reasoning::Off) => push_reply(llama, body, &mut ids),
        (None, Reasoning::On) => llama.encode_into(THINK, &mut ids),
        (None, Reasoning::Off) => {}
    }
    Ok(ids)
}

/// Appends one message of a dialog with its end, and says where in `ids` its body begins: what comes before
/// is the header, which a model is given.
///
/// # Errors
/// [`ChatError::NamelessTool`], and then nothing is appended.
pub fn encode_message(
    llama: &Llama,
    message: &Message,
    ids: &mut Vec<u32>,
) -> Result<usize, ChatError> {
    if matches!(&message.role, Role::Tool(name) if strip(name).is_empty()) {
        return Err(ChatError::NamelessTool);
    }
    push_header(llama, &message.role, ids);
    let body = ids.len();
    match message.role {
        Role::Assistant => push_reply(llama, strip(&message.body), ids),
        Role::Tool(_) => llama.encode_into(&message.body, ids),
        Role::System | Role::User => llama.encode_into(strip(&message.body), ids),
    }
    ids.push(llama.id(Special::EndOfTurn));
    Ok(body)
}

fn push_header(llama: &Llama, role: &Role, ids: &mut Vec<u32>) {
    ids.push(llama.id(Special::StartHeader));
    llama.encode_into(&role.header(), ids);
    ids.push(llama.id(Special::EndHeader));
    llama.encode_into("\n\n", ids);
}

/// Appends what the assistant said. The text is cut before special tokens are
/// looked for, as in Meta's code.
fn push_reply(llama: &Llama, body: &str, ids: &mut Vec<u32>) {
    let thinking = [Special::ThinkingStart, Special::ThinkingEnd].map(|special| llama.id(special));
    for part in cut(body) {
        ids.extend(llama.encode_allowing(part, |id| thinking.contains(&id)));
    }
}

/// Python's `str.strip`, which takes four more characters for white space than
/// Unicode does.
fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c))
}
