//! [`Reply`]: what a command came to, as data.
//!
//! Replies serialise to JSON for programs and render to text for people (see
//! [`render`](crate::render())). Both show the origin of every value.

use serde::Serialize;

use crate::breakpoint::Breakpoint;
use crate::compare::Divergence;
use crate::debugger::Fork;
use crate::frame::{Frame, Variable};
use crate::jump::JumpReply;

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reply {
    /// The user stands at a frame, perhaps a new one.
    Frame(Box<FrameReply>),
    /// Where a jump leads.
    Jump(Box<JumpReply>),
    /// Variables.
    Variables(VariablesReply),
    /// The call stack, innermost first.
    Stack {
        /// Its places.
        places: Vec<StackPlace>,
    },
    /// Source lines.
    Source {
        /// The lines.
        lines: Vec<SourceLine>,
    },
    /// All breakpoints.
    Breakpoints {
        /// The breakpoints.
        breakpoints: Vec<Breakpoint>,
    },
    /// All forks.
    Forks {
        /// The forks.
        forks: Vec<Fork>,
    },
    /// The prediction was compared with a real run.
    Verified(Box<Verified>),
    /// Explanations of commands.
    Help {
        /// The commands.
        commands: Vec<HelpEntry>,
    },
    /// Something was done that has nothing more to show.
    Done {
        /// What.
        message: String,
    },
    /// The command could not be carried out; nothing has changed.
    Refused {
        /// Why, and what to do instead.
        message: String,
    },
    /// The session is over.
    Quit,
}

impl Reply {
    /// Whether the command failed, wholly or after some frames.
    pub fn is_error(&self) -> bool {
        match self {
            Self::Refused { .. } => true,
            Self::Frame(reply) => matches!(reply.why, Why::Failed { .. }),
            _ => false,
        }
    }
}

/// A frame and how the user came to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrameReply {
    /// Why it is shown.
    #[serde(flatten)]
    pub why: Why,
    /// Frames the command passed, this one included.
    pub passed: usize,
    /// Number of frames before it.
    pub index: usize,
    /// Its fork; 0 is the original run.
    pub fork: usize,
    /// Text of its line.
    pub source: Option<String>,
    /// The frame.
    pub frame: Frame,
}

/// Why a frame is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Why {
    /// It is the first of the session.
    Start {
        /// What is being predicted, such as `f(3)`.
        entry: String,
        /// Where it is from.
        file: String,
    },
    /// A motion arrived at it.
    Arrived,
    /// A breakpoint stopped a motion.
    Breakpoint {
        /// Number of the breakpoint.
        breakpoint: u32,
    },
    /// Nothing follows it.
    Ended,
    /// One command may not pass more frames.
    Budget {
        /// How many it may.
        budget: usize,
    },
    /// What follows it could not be predicted.
    Failed {
        /// Why, and what to do.
        error: String,
    },
    /// The last command was undone.
    Back,
    /// A variable was set.
    Set {
        /// The variable.
        name: String,
    },
    /// The calls of a line were gone over without their frames.
    Leapt,
    /// Another fork was chosen.
    Switched,
    /// The session went to its first frame.
    Reset,
}

/// Variables and a value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VariablesReply {
    /// Function they are local to.
    pub function: String,
    /// Line before which the state held, where the current frame itself shows
    /// a value instead of a state.
    pub as_of: Option<u32>,
    /// The variables.
    pub variables: Vec<Variable>,
    /// Whether one variable was asked for, which is then shown whole.
    pub single: bool,
}

/// One place on the call stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StackPlace {
    /// Name of the function.
    pub function: String,
    /// Line it stands on.
    pub line: u32,
    /// Number of callers below it.
    pub depth: u32,
    /// Text of the line.
    pub source: Option<String>,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceLine {
    /// Its number, 1-based.
    pub number: u32,
    /// Its text.
    pub text: String,
    /// Whether the user stands on it.
    pub current: bool,
    /// Whether it has a breakpoint.
    pub breakpoint: bool,
}

/// How a prediction compares with reality.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verified {
    /// Name of the file.
    pub file: String,
    /// Whether the program was executed by this command. If not, an earlier
    /// execution was used.
    pub executed: bool,
    /// Frames of the real run.
    pub real_frames: usize,
    /// Whether the real run was recorded to its end.
    pub real_whole: bool,
    /// What the real run returned.
    pub real_output: Option<String>,
    /// Predicted frames that were compared.
    pub compared: usize,
    /// Whether they include the predicted end.
    pub finished: bool,
    /// Index of the first frame edited by hand or leapt to. It and what follows are not
    /// compared: the real program knows nothing of the edit, and has frames that a leap left out.
    pub edited_at: Option<usize>,
    /// Whether that frame was leapt to.
    pub leapt: bool,
    /// Where the user stands.
    pub index: usize,
    /// Whether nothing differs.
    pub agrees: bool,
    /// What differs first.
    pub divergence: Option<Divergence>,
}

/// Explanation of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HelpEntry {
    /// Name and arguments.
    pub usage: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// What it does.
    pub summary: String,
}
