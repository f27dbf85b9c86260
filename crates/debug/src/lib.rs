//! The neural debugger: going through an execution that has not happened.
//!
//! A [`Predictor`] imagines the run of a program frame by frame. A
//! [`Debugger`] goes forward, back and sideways in it; a [`Console`] gives
//! that a command language whose every answer is a [`Reply`], data that
//! [`render()`] turns into text. Only `verify` asks [`Reality`], and says so.
//!
//! This crate does no I/O and knows no terminal, protocol, model or
//! interpreter. It promises:
//!
//! * every value shown carries its [`Origin`];
//! * nothing predicted is ever lost: going back and forking keep what is
//!   known, and `back` undoes one command, whatever it passed over;
//! * a failed prediction is an answer, after which every command still works;
//! * no command runs forever, whatever the predictor does.
//!
//! [`predict_all`], [`observed`] and [`compare`] serve callers that want whole
//! runs.

mod breakpoint;
pub mod command;
mod compare;
mod console;
mod debugger;
mod frame;
mod jump;
mod predictor;
mod program;
mod render;
mod reply;
mod timeline;

pub use breakpoint::{Breakpoint, Condition, Operator};
pub use compare::{Aspect, Divergence, Run, RunEnd, compare, observed, predict_all, real_output};
pub use console::{Console, Options};
pub use debugger::{
    CommandError, DEFAULT_BUDGET, Debugger, Fork, ForkEdit, ForkLeap, Motion, Moved, Scope, Stop,
};
pub use frame::{DOUBTFUL, Frame, Origin, UNCHANGED, Variable};
pub use jump::{JumpReply, Landed, Landing};
pub use predictor::{PredictError, Predictor, Reality};
pub use program::Program;
pub use render::{Style, render, render_frame};
pub use reply::{
    FrameReply, HelpEntry, Reply, SourceLine, StackPlace, VariablesReply, Verified, Why,
};
