//! An agent at work in a repository: what it is to do, what it does, what comes back, how it ends.
//!
//! The tools are those of CWM: `bash`, `edit`, `create` and `submit`, in the form that its
//! environment reads (facebookresearch/cwm, `cwm/rl/swerl`). Rendered is what the agent saw and
//! said, in CWM's chat format: a system message, the task, then a message of the assistant and one
//! of the tool for each step. Times, outcome and origin are not in the rendering; they are for
//! choosing.
//!
//! For training, use [`Trajectory::dialog`] with [`cwm_tokenizer::chat`]: there no text can be
//! taken for a special token. [`Trajectory::render`] writes special tokens by their names, for
//! people and for what follows from texts alone.

mod chat;
mod check;

use cwm_tokenizer::chat::{Message, Role};
use serde::{Deserialize, Serialize};

use super::{Content, Document, Material, Skip};
use crate::scrub::{Findings, Scrubber};

pub use chat::{Transcript, Turn};
pub use check::{Fault, check};

/// One attempt at a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trajectory {
    /// What kind of task it is.
    pub task_kind: TaskKind,
    /// Where the work is done.
    pub setting: Setting,
    /// What the agent is told about its tools.
    pub system: String,
    /// What the agent is to do.
    pub task: String,
    /// What it did, in order.
    pub steps: Vec<Step>,
    /// Why it stopped.
    pub stop: Stop,
    /// What came of it.
    pub outcome: Outcome,
    /// Who did it.
    pub made_by: Provenance,
}

/// How a task came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Working code was broken on purpose.
    MutateFix,
    /// A repository is at the state before a fix, and an issue describes what is wrong.
    IssueFix,
    /// Anything else.
    Other,
}

/// The place of the work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Address or name of the repository.
    pub repository: String,
    /// Its commit.
    pub commit: String,
    /// The image in which commands ran; empty if there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
}

/// One thing that the agent did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What it thought before; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub thought: String,
    /// What it did.
    pub call: ToolCall,
    /// What came back; only the last step may have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observation: Option<Observation>,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "tool", rename_all = "snake_case", deny_unknown_fields)]
pub enum ToolCall {
    /// Runs commands in a shell that stays.
    Bash {
        /// The commands.
        command: String,
    },
    /// Replaces lines of a file, which must be there exactly once.
    Edit {
        /// The file.
        path: String,
        /// The lines.
        search: String,
        /// What takes their place.
        replace: String,
    },
    /// Makes a file that is not there yet.
    Create {
        /// The file.
        path: String,
        /// Its text.
        text: String,
    },
    /// Hands in the result, and ends the work.
    Submit {
        /// The file with the patch.
        path: String,
    },
}

/// What came back from a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// As the agent saw it.
    pub text: String,
    /// Seconds that the tool took.
    pub seconds: f64,
}

/// Why the agent stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// It submitted a result.
    Submitted,
    /// It had no turns left.
    Turns,
    /// It had no tokens left.
    Tokens,
    /// It had no time left.
    Time,
    /// It would have cost too much.
    Cost,
    /// It did not follow the form of calls.
    Format,
    /// What it worked in broke down; no fault of the agent.
    Environment,
}

/// What came of an attempt. Trajectories are not chosen by success, but a user may want to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Tests that decide, before the work.
    pub before: Tests,
    /// The same tests afterwards.
    pub after: Tests,
    /// What the attempt is worth, between -1 and 1; none if it was not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<f64>,
    /// All that the agent changed, as a diff; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub patch: String,
}

/// Counts of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tests {
    /// That pass.
    pub passed: u32,
    /// That do not.
    pub failed: u32,
}

/// Who made a trajectory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The model that acted.
    pub model: String,
    /// The program that ran it, with its version.
    pub agent: String,
    /// Seed of its choices.
    pub seed: u64,
}

impl ToolCall {
    /// The name of the tool.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bash { .. } => "bash",
            Self::Edit { .. } => "edit",
            Self::Create { .. } => "create",
            Self::Submit { .. } => "submit",
        }
    }
}

impl Trajectory {
    /// What the agent saw and said.
    pub fn transcript(&self) -> Transcript {
        let turn = |step: &Step| Turn {
            thought: step.thought.clone(),
            call: step.call.clone(),
            observation: step.observation.as_ref().map(|seen| seen.text.clone()),
        };
        Transcript {
            system: self.system.clone(),
            task: self.task.clone(),
            turns: self.steps.iter().map(turn).collect(),
        }
    }

    /// The messages, for a tokenizer.
    pub fn dialog(&self) -> Vec<Message> {
        self.transcript().dialog()
    }

    /// The messages as one text, special tokens by their names. [`Transcript::parse`] reads it back.
    pub fn render(&self) -> String {
        self.transcript().render()
    }

    /// What trajectories are compared by to leave out near copies: all that the agent did, without
    /// what it thought and saw.
    pub fn actions(&self) -> String {
        let calls = self.steps.iter().map(|step| chat::call_text(&step.call));
        calls.collect::<Vec<_>>().join("\n")
    }

    /// Replaces what `scrubber` finds in every text. The same secret is replaced by the same words
    /// everywhere, so what the agent does still fits what it sees.
    pub fn scrub(&mut self, scrubber: &Scrubber) -> Findings {
        let mut findings = Findings::new();
        let mut clean = |text: &mut String| {
            let scrubbed = scrubber.scrub(text);
            for (finding, count) in scrubbed.findings {
                *findings.entry(finding).or_default() += count;
            }
            *text = scrubbed.text.into_owned();
        };
        clean(&mut self.system);
        clean(&mut self.task);
        clean(&mut self.outcome.patch);
        for step in &mut self.steps {
            clean(&mut step.thought);
            if let Some(seen) = &mut step.observation {
                clean(&mut seen.text);
            }
            match &mut step.call {
                ToolCall::Bash { command } => clean(command),
                ToolCall::Edit {
                    path,
                    search,
                    replace,
                } => [path, search, replace].into_iter().for_each(&mut clean),
                ToolCall::Create { path, text } => [path, text].into_iter().for_each(&mut clean),
                ToolCall::Submit { path } => clean(path),
            }
        }
        findings
    }
}

/// The document of one trajectory, scrubbed and checked.
///
/// # Errors
/// [`Skip::Malformed`] if [`check`] finds fault with it.
pub fn trajectory(
    mut trajectory: Trajectory,
    material: &Material,
    scrubber: &Scrubber,
) -> Result<Document, Skip> {
    trajectory.scrub(scrubber);
    check(&trajectory).map_err(|_| Skip::Malformed)?;
    let part = format!(
        "{}:{}:{}",
        trajectory.made_by.model,
        trajectory.made_by.seed,
        short_digest(&trajectory.task)
    );
    Ok(Document::new(
        material,
        &part,
        Content::Trajectory(trajectory),
    ))
}

/// Enough of a digest to tell the tasks of a repository apart.
fn short_digest(text: &str) -> String {
    use sha2::{Digest, Sha256};
    crate::build::hex(&Sha256::digest(text)[..6])
}
