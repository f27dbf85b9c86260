//! The debugger against a scripted predictor.

mod defects;
mod dialogues;
mod fake;
mod limits;
mod properties;
