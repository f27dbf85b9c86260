//! Dialogs in CWM's chat format: messages of which some are learned from and the others are given.
//!
//! A dialog is one unit. One that is longer than a row ends behind the last turn that fits.

use std::sync::Arc;

use cwm_model::{Target, causal_spans};
use cwm_tokenizer::chat::{Message, Role, encode_message};
use cwm_tokenizer::llama::{Llama, Special};
use serde::{Deserialize, Serialize};

use super::Digest;
use crate::Example;
use crate::batches::SplitMix64;
use crate::packed::{Documents, PackedStats, Piece};

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// The one who sets up the dialog.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool.
    Tool,
}

impl Speaker {
    const ALL: [Self; 4] = [Self::System, Self::User, Self::Assistant, Self::Tool];

    fn of(role: &Role) -> Self {
        match role {
            Role::System => Self::System,
            Role::User => Self::User,
            Role::Assistant => Self::Assistant,
            Role::Tool(_) => Self::Tool,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// How reasoning is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Think {
    /// Between two reserved tokens, of which the opening one is never learned, so that a model reasons only where it
    /// is told to.
    Tokens,
    /// Between `<think>` and `</think>`, which are learned like all text.
    Text,
}

/// What is learned from dialogs.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// Whose messages are learned, to the end of turn.
    pub learn: Vec<Speaker>,
    /// Share of the replies of tools that are learned, if they are at all: each is or is not, by chance.
    pub tool_share: f64,
    /// Decides which replies these are.
    pub seed: u64,
    /// How reasoning is to be written; as it is if none.
    pub think: Option<Think>,
}

impl Default for Lesson {
    fn default() -> Self {
        Self {
            learn: vec![Speaker::Assistant],
            tool_share: 1.0,
            seed: 1,
            think: None,
        }
    }
}

/// Dialogs as ids.
#[derive(Debug)]
pub struct Dialogs {
    llama: Arc<Llama>,
    lesson: Lesson,
    dialogs: Vec<Dialog>,
    /// Dialogs seen, those left out included.
    seen: u64,
    digest: Digest,
}

#[derive(Debug)]
struct Dialog {
    ids: Box<[u32]>,
    /// Indexes into `ids` that are learned, with who said them.
    learned: Box<[(u32, Speaker)]>,
}

impl Dialogs {
    /// No dialog yet.
    pub fn new(llama: Arc<Llama>, lesson: Lesson) -> Self {
        Self {
            llama,
            lesson,
            dialogs: Vec::new(),
            seen: 0,
            digest: Digest::default(),
        }
    }

    /// Adds a dialog, as many of its turns as fit into `row_tokens`. What is left out is counted.
    pub fn push(&mut self, messages: Vec<Message>, row_tokens: usize, stats: &mut PackedStats) {
        let number = self.seen;
        self.seen += 1;
        let mut ids = vec![self.llama.id(Special::BeginOfText)];
        let mut learned = Vec::new();
        let turns = messages.len();
        for (turn, mut message) in messages.into_iter().enumerate() {
            self.write_thoughts(&mut message);
            let start = ids.len();
            let Ok(body) = encode_message(&self.llama, &message, &mut ids) else {
                return stats.drop("dialog with a nameless tool", 1);
            };
            if ids.len() > row_tokens {
                ids.truncate(start);
                stats.drop("turn behind the row", turns - turn);
                break;
            }
            let speaker = Speaker::of(&message.role);
            if self.learns(speaker, number, turn) {
                let thinking = self.llama.id(Special::ThinkingStart);
                let said = (body..ids.len()).filter(|&at| ids[at] != thinking);
                learned.extend(said.map(|at| (at as u32, speaker)));
            }
        }
        if learned.is_empty() {
            return stats.drop("dialog without a turn to learn from", 1);
        }
        self.digest.add(&ids);
        self.dialogs.push(Dialog {
            ids: ids.into(),
            learned: learned.into(),
        });
    }

    fn write_thoughts(&self, message: &mut Message) {
        if message.role != Role::Assistant {
            return;
        }
        let tokens = [Special::ThinkingStart, Special::ThinkingEnd].map(Special::text);
        let tags = ["<think>", "</think>"];
        let (from, to) = match self.lesson.think {
            None => return,
            Some(Think::Tokens) => (tags, tokens),
            Some(Think::Text) => (tokens, tags),
        };
        for (from, to) in from.into_iter().zip(to) {
            message.body = message.body.replace(from, to);
        }
    }

    /// Whether a turn is learned: a function of the seed and the place.
    fn learns(&self, speaker: Speaker, dialog: u64, turn: usize) -> bool {
        let chance = || {
            let place = SplitMix64(self.lesson.seed).next() ^ (dialog << 20 | turn as u64);
            SplitMix64(place).next() as f64 / u64::MAX as f64
        };
        self.lesson.learn.contains(&speaker)
            && (speaker != Speaker::Tool || chance() < self.lesson.tool_share)
    }
}

impl Documents for Dialogs {
    fn len(&self) -> usize {
        self.dialogs.len()
    }

    fn units(&self, _: usize) -> usize {
        1
    }

    fn context(&self, _: usize) -> usize {
        0
    }

    fn tokens_before(&self, document: usize, unit: usize) -> usize {
        unit * self.dialogs[document].ids.len()
    }

    fn may_begin(&self, _: usize, unit: usize) -> bool {
        unit == 0
    }

    fn opening(&self, _: usize, _: usize) -> Vec<u32> {
        Vec::new()
    }

    fn example(&self, piece: &Piece) -> Example {
        let dialog = &self.dialogs[piece.document as usize];
        let ids = dialog.ids.to_vec();
        let target = |&(at, _): &(u32, Speaker)| Target {
            row: at - 1,
            id: ids[at as usize],
            weight: 1.0,
        };
        Example {
            targets: dialog.learned.iter().map(target).collect(),
            kinds: dialog
                .learned
                .iter()
                .map(|(_, speaker)| *speaker as u8)
                .collect(),
            positions: (0..ids.len() as u32).collect(),
            spans: causal_spans(ids.len()),
            ids,
            ..Example::default()
        }
    }

    fn kinds(&self) -> Vec<String> {
        Speaker::ALL
            .map(|speaker| speaker.name().to_owned())
            .to_vec()
    }

    fn fingerprint(&self) -> String {
        format!("{}{:?}", self.digest.hex(), self.lesson)
    }
}

/// One line of a file of dialogs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    messages: Vec<LineMessage>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LineMessage {
    role: String,
    content: String,
}

/// Reads a line `{"messages": [{"role": ..., "content": ...}]}`. Roles are `system`, `user`, `assistant` and
/// `tool: NAME`.
///
/// # Errors
/// What is wrong with the line.
pub fn read_line(line: &str) -> Result<Vec<Message>, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let message = |LineMessage { role, content }: LineMessage| {
        let role = match role.as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => match other.strip_prefix("tool:").map(str::trim) {
                Some(name) if !name.is_empty() => Role::Tool(name.to_owned()),
                _ => {
                    return Err(format!(
                        "role `{other}` is none of `system`, `user`, `assistant`, `tool: NAME`"
                    ));
                }
            },
        };
        Ok(Message {
            role,
            body: content,
        })
    };
    line.messages.into_iter().map(message).collect()
}
