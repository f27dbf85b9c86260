//! Free-running prediction in the `live` dialect.
//!
//! A [`Predictor`] holds one program: its source is prefilled once, and every
//! line's window is a fork of that session. [`Predictor::next`] decodes
//! one frame under the frame grammar and hands it to the same
//! [`Machine`](cwm_trace::live::Machine) that made the training data, which
//! says what the model sees next. Nothing is executed.

mod arguments;
mod decode;
mod definitions;
mod grammar;
mod jump;
mod literal;
mod memory;
mod predictor;

pub use arguments::{ArgumentError, Signature, bind_arguments, literal_repr};
pub use jump::{Landed, Landing};
pub use predictor::{LiveError, Pace, Point, Predicted, Predictor, Sampling};
