//! Benchmarks and metrics of predicted runs.
//!
//! * [`traces`]: recorded runs, teacher-forced (every frame predicted from the
//!   real frames before it, as in CWM's Table 9) and free-running (every frame
//!   from predicted ones).
//! * [`text`]: loss per token of a text.
//! * [`cruxeval`]: output prediction in the manner of CruxEval.
//!
//! Nothing here knows how a model was trained. Every rate comes with its count
//! and can be given a [Wilson interval](Rate::wilson).

pub mod cruxeval;
mod parallel;
mod rate;
mod report;
mod score;
pub mod text;
pub mod traces;

pub use rate::Rate;
pub use report::Report;
