//! Ladders: many small runs, and what they say about large ones.
//!
//! ```text
//! Ladder --write_plan--> runs.csv --climb--> runs.csv with losses --fit--> laws, tables, a page
//! ```
//!
//! - [`Ladder`] names sizes, budgets and a search over learning rate and batch.
//! - [`write_plan`] makes a table of runs, [`climb`] trains them, however often it is interrupted.
//! - [`fit`](fit::fit) finds the laws: the best learning rate and batch for a compute `C`, the best
//!   size (isoFLOP), and the loss of a size and a number of tokens.
//!
//! The compute of a run is `C = M D` with `M = 6 N_ne + 6 d L S` (CWM, 2025): `N_ne` parameters
//! without embeddings and head, width `d`, `L` layers, rows of `S` tokens, `D` tokens in all.

mod arithmetic;
mod climb;
mod data;
mod error;
pub mod fit;
mod ladder;
mod plan;
mod sequence;
mod table;

pub use arithmetic::Arithmetic;
pub use climb::{Climb, Climbed, Effort, RUNS_FOLDER, climb};
pub use error::Error;
pub use ladder::{BuiltIn, Data, LADDER_FILE, Ladder, Rule, Search, Shares, Size, Weight, weight};
pub use plan::{Planned, write_plan};
pub use sequence::point;
pub use table::{COLUMNS, Run, State, TABLE_FILE, read_table, write_table};
