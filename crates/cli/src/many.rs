//! Flags of commands that make many traces at once.

use std::path::PathBuf;

use clap::ValueEnum;
use cwm_tracer::Values;

/// What is done with many runs.
#[derive(clap::Args)]
pub(crate) struct ManyArgs {
    /// How objects become text: by their own `repr`, or without running any code of theirs [default:
    /// repr for calls, safe for tests]
    #[arg(long, value_enum, requires = "many")]
    pub(crate) values: Option<ValuesArg>,
    /// Print the summary as JSON, on standard output; traces go to `--out`
    #[arg(long, requires_all = ["many", "out"])]
    pub(crate) json: bool,
    /// Make every call twice; one whose traces differ says so
    #[arg(long, requires = "calls")]
    pub(crate) double_run: bool,
    /// Make every call without tracing too; one that comes out differently says so
    #[arg(long, requires = "calls")]
    pub(crate) check_untraced: bool,
    /// Files and folders whose code is recorded while tests run [default: the current folder]
    #[arg(long, value_name = "PATH", requires = "pytest")]
    pub(crate) include: Vec<PathBuf>,
    /// Calls below a test whose frames are kept [default: all]
    #[arg(long, value_name = "N", requires = "pytest")]
    pub(crate) stack_depth: Option<u32>,
    /// Probability that a call is stepped into; of the others only call and value are kept
    #[arg(long, value_name = "P", requires = "pytest")]
    pub(crate) step_in: Option<f64>,
    /// Decides which calls are stepped into, and which actions the dialect nd takes [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Besides a trace per test write one per function call, at most so many of each test
    #[arg(
        long,
        value_name = "N",
        requires = "pytest",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1000"
    )]
    pub(crate) per_call: Option<usize>,
}

/// How objects become text.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ValuesArg {
    /// By their own `repr`
    Repr,
    /// By what they are made of
    Safe,
}

impl From<ValuesArg> for Values {
    fn from(argument: ValuesArg) -> Self {
        match argument {
            ValuesArg::Repr => Self::Repr,
            ValuesArg::Safe => Self::Safe,
        }
    }
}
