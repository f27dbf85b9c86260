//! What must be true of a trajectory before anything is trained on it.

use super::chat::{call_text, forgeries};
use super::{Stop, ToolCall, Trajectory};

/// What is wrong with a trajectory. Steps are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing was done.
    #[error("there are no steps")]
    Empty,
    /// There is no task.
    #[error("there is no task")]
    NoTask,
    /// A call has no answer although more follows.
    #[error("step {0} has no observation, and is not the last one")]
    Unanswered(usize),
    /// Work goes on after it was handed in.
    #[error("step {0} submits, and is not the last one")]
    AfterSubmit(usize),
    /// It is said to have been handed in, and was not, or the other way round.
    #[error("the last step and the stated stop disagree about whether a result was submitted")]
    Stop,
    /// A path or command is missing, or a path has line ends.
    #[error("the call of step {0} lacks what it needs")]
    Incomplete(usize),
    /// A thought or a call has marks of calls in it: nobody could tell where the call begins or ends.
    #[error("step {0} has a mark of a tool call or of thinking inside a text")]
    Marks(usize),
    /// A text that is stripped when it is shown has blanks around it.
    #[error("`{0}` has blanks at its ends, which are not shown")]
    Blanks(&'static str),
    /// A number that is no time or reward.
    #[error("`{0}` is no number that it can be")]
    Number(&'static str),
}

/// Finds the first thing that is wrong.
///
/// # Errors
/// [`Fault`].
pub fn check(trajectory: &Trajectory) -> Result<(), Fault> {
    let steps = &trajectory.steps;
    let last = steps.last().ok_or(Fault::Empty)?;
    if trajectory.task.trim().is_empty() {
        return Err(Fault::NoTask);
    }
    for (name, text) in [("system", &trajectory.system), ("task", &trajectory.task)] {
        if text.trim() != text {
            return Err(Fault::Blanks(name));
        }
    }
    for (number, step) in (1..).zip(steps) {
        let is_last = number == steps.len();
        let submits = matches!(step.call, ToolCall::Submit { .. });
        if submits && !is_last {
            return Err(Fault::AfterSubmit(number));
        }
        if step.observation.is_none() && !is_last {
            return Err(Fault::Unanswered(number));
        }
        if !is_complete(&step.call) {
            return Err(Fault::Incomplete(number));
        }
        if step.thought.trim() != step.thought {
            return Err(Fault::Blanks("thought"));
        }
        if forgeries(&step.thought) > 0 || forgeries(&call_text(&step.call)) != 2 {
            return Err(Fault::Marks(number));
        }
        let seconds = step.observation.as_ref().map_or(0.0, |seen| seen.seconds);
        if !seconds.is_finite() || seconds < 0.0 {
            return Err(Fault::Number("seconds"));
        }
    }
    let submitted = matches!(last.call, ToolCall::Submit { .. });
    if submitted != (trajectory.stop == Stop::Submitted) {
        return Err(Fault::Stop);
    }
    match trajectory.outcome.reward {
        Some(reward) if !(-1.0..=1.0).contains(&reward) => Err(Fault::Number("reward")),
        _ => Ok(()),
    }
}

/// Whether a call has all that its tool needs, and can be told from its parts.
fn is_complete(call: &ToolCall) -> bool {
    let is_path =
        |path: &str| !path.trim().is_empty() && path.trim() == path && !path.contains('\n');
    match call {
        ToolCall::Bash { command } => !command.trim().is_empty(),
        ToolCall::Edit {
            path,
            search,
            replace,
        } => {
            let has_mark = |text: &str| {
                let mut lines = text.lines();
                lines.any(|line| {
                    ["<<<<<<< ", "=======", ">>>>>>> "]
                        .iter()
                        .any(|m| line.starts_with(m))
                })
            };
            is_path(path) && !search.is_empty() && !has_mark(search) && !has_mark(replace)
        }
        ToolCall::Create { path, .. } | ToolCall::Submit { path } => is_path(path),
    }
}
