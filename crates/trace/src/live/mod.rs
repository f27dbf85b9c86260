//! The `live` dialect: numbered lines and only the live call stack.
//!
//! Two layers, both specified by `specs/live.md`:
//!
//! * [`Document`] and its text: the whole run, one frame a line, for people
//!   and files. `parse(render(d)) == d`.
//! * [`Machine`]: what a model sees of it. Each line that runs has a *window*:
//!   a header that puts the line in focus, then what the line does, in which a
//!   finished call leaves only its value. So the context is bounded by the
//!   program and the values that one line names, not by the length of the
//!   run. The same machine makes training windows from recorded events and
//!   prompts from predicted ones. [`ahead`] and [`behind`] ask it for more than
//!   the next frame.

mod document;
mod flow;
mod focus;
mod jump;
mod machine;
mod outline;

pub use document::{Broken, Document, Parsed, VERSION, parse, render};
pub use flow::Flow;
pub use focus::{Focus, MOST_NEXT};
pub use jump::{Ahead, Answers, Behind, Exit, Jump, Later, Outcome, ahead, asked, behind, later};
pub use machine::{Machine, Mark, Piece, Told, Window, WindowPiece, Workings, step_pieces};
pub use outline::{LineInfo, LineKind, Outline, defined_name};
