//! What the debugger asks of the world: a [`Predictor`] that imagines frames
//! and a [`Reality`] that records them.

use cwm_trace::live::Jump;

use crate::frame::Frame;
use crate::jump::Landed;

/// Why no next frame could be predicted. Always a value: the debugger stays
/// where it is and can go on from any frame it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PredictError {
    /// The run has outgrown what the model can see.
    #[error(
        "the model's context of {limit} tokens is full; go `back`, or debug a smaller entry function"
    )]
    ContextFull {
        /// Its size in tokens.
        limit: usize,
    },
    /// The model wrote something that is no frame.
    #[error("the model wrote a malformed frame: {0}")]
    Malformed(String),
    /// No continuation is allowed by the grammar and the program.
    #[error("no legal frame follows: {0}")]
    NothingLegal(String),
    /// A variable cannot be given this value.
    #[error("cannot set `{name}`: {reason}")]
    CannotSet {
        /// The variable.
        name: String,
        /// What is wrong with it or with its value.
        reason: String,
    },
    /// Where an action leads cannot be named at once.
    #[error("cannot jump: {0}")]
    CannotJump(String),
    /// The caller asked the predictor to stop.
    #[error("interrupted; repeat the command to go on")]
    Interrupted,
    /// Anything else, such as a failure of the model itself.
    #[error("{0}")]
    Other(String),
}

/// Imagines the run of a program, one frame at a time.
///
/// It must be a function of its arguments: asked twice from the same point it
/// may sample differently, but it must not depend on which *other* points it
/// was asked about. That is what lets the debugger go back and fork.
pub trait Predictor {
    /// A cheap snapshot of the run so far, including the frame returned with
    /// it.
    type Point: Clone;

    /// The first frame: the call of the entry scope.
    ///
    /// # Errors
    ///
    /// Any [`PredictError`] but `CannotSet`.
    fn start(&mut self) -> Result<(Self::Point, Frame), PredictError>;

    /// The frame after `at`; `None` where the entry scope has ended.
    ///
    /// # Errors
    ///
    /// Any [`PredictError`] but `CannotSet`.
    fn next(&mut self, at: &Self::Point) -> Result<Option<(Self::Point, Frame)>, PredictError>;

    /// The same moment with one variable replaced. `frame` is the frame of
    /// `at`, made whole; `name` is one of its locals.
    ///
    /// # Errors
    ///
    /// [`PredictError::CannotSet`] for a value that cannot be expressed, and
    /// the errors of [`Predictor::next`].
    fn set(
        &mut self,
        at: &Self::Point,
        frame: &Frame,
        name: &str,
        value: &str,
    ) -> Result<(Self::Point, Frame), PredictError>;

    /// Where an action leads from `at`, at once. `frame` is the frame of `at`, made whole. Predictors that only step
    /// need not have it.
    ///
    /// # Errors
    ///
    /// [`PredictError::CannotJump`], and the errors of [`Predictor::next`].
    fn jump(
        &mut self,
        _at: &Self::Point,
        _frame: &Frame,
        _jump: Jump,
    ) -> Result<Landed, PredictError> {
        Err(PredictError::CannotJump(
            "this model predicts frame by frame".into(),
        ))
    }

    /// Goes from `at`, where a line is about to run, over its calls to what follows in the same activation, without the
    /// frames in between; `None` where that leads out of the run. Predictors that only step need not have it.
    ///
    /// # Errors
    ///
    /// [`PredictError::CannotJump`], and the errors of [`Predictor::next`].
    fn leap(&mut self, _at: &Self::Point) -> Result<Option<(Self::Point, Frame)>, PredictError> {
        Err(PredictError::CannotJump(
            "this model predicts frame by frame".into(),
        ))
    }
}

/// The real program.
pub trait Reality {
    /// **Executes the program** and returns what happened. Frames carry
    /// [`Origin::Observed`](crate::Origin::Observed).
    ///
    /// # Errors
    ///
    /// Why the program could not be run, for a person to read. A program that
    /// raises is a run like any other, not an error.
    fn trace(&mut self) -> Result<Vec<Frame>, String>;
}
