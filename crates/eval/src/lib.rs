//! Benchmarks and metrics of predicted runs.
//!
//! * [`traces`]: recorded runs, teacher-forced (every frame predicted from the
//!   real frames before it, as in CWM's Table 9) and free-running (every frame
//!   from predicted ones).
//! * [`text`]: loss per token of a text.
//! * [`cruxeval`]: output prediction in the manner of CruxEval.
//! * [`suite`]: many sets of runs, every figure broken down, with what needs no model beside it; [`problems`] are
//!   functions with tests, as MBPP and HumanEval have them; [`page`] shows it.
//! * [`jumps`]: where actions of a debugger lead, named at once; arguments are judged by running them.
//!
//! Nothing here knows how a model was trained. Every rate comes with its count
//! and can be given a [Wilson interval](Rate::wilson).

pub mod cruxeval;
mod detail;
pub mod jumps;
pub mod page;
mod parallel;
pub mod problems;
mod rate;
mod report;
mod score;
pub mod suite;
pub mod text;
pub mod traces;

pub use detail::{Baselines, Bin, Calibration, Detail, SHORT};
pub use rate::Rate;
pub use report::Report;
