//! [`Frame`]: one moment of an execution as the debugger shows it.
//!
//! A frame is self-contained: it lists the whole state of its activation, not
//! a difference to some other frame, so that showing it never means searching
//! for what a `..` stood for. [`Frame::settle`] is the one place where
//! abbreviated predictions are made whole.

use std::sync::Arc;

use cwm_trace::EventKind;
use serde::Serialize;

use crate::predictor::PredictError;

/// What the `cwm` dialect writes for "as in the frame before".
pub const UNCHANGED: &str = "..";

/// Below this probability a value is marked as doubtful.
pub const DOUBTFUL: f32 = 0.5;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "origin", rename_all = "snake_case")]
pub enum Origin {
    /// The model said so.
    Predicted {
        /// Its probability for exactly this text, in 0..=1.
        probability: f32,
    },
    /// A real run showed it.
    Observed,
    /// The user set it, or it is an argument of the entry call.
    Given,
}

impl Origin {
    /// Whether the model itself would rather bet against the value.
    pub fn is_doubtful(self) -> bool {
        matches!(self, Self::Predicted { probability } if is_doubtful(probability))
    }
}

/// Whether a probability is too low to rely on, or is not even a number.
pub(crate) fn is_doubtful(probability: f32) -> bool {
    probability.is_nan() || probability < DOUBTFUL
}

/// A bound variable of a frame.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Variable {
    /// Its name.
    pub name: Arc<str>,
    /// Its value as `repr` text.
    pub value: Arc<str>,
    /// Where the value comes from.
    #[serde(flatten)]
    pub origin: Origin,
    /// Whether it differs from the previous frame of the same activation.
    pub changed: bool,
}

/// One moment of an execution.
///
/// `Line` frames show the state *before* their line runs, as `sys.settrace`
/// does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Frame {
    /// What happens here.
    pub kind: EventKind,
    /// Name of the function.
    pub function: String,
    /// Line, 1-based.
    pub line: u32,
    /// Number of callers below it on the stack: 0 for the entry scope.
    pub depth: u32,
    /// Which run of the function this is, counted from 0 by first call.
    pub activation: u32,
    /// Whole state of the activation in binding order; empty for the kinds
    /// that carry a value instead.
    pub locals: Vec<Variable>,
    /// The value returned, yielded or raised, where the kind has one.
    #[serde(serialize_with = "serialize_value")]
    pub value: Option<(Arc<str>, Origin)>,
    /// The model's probability for the whole frame, its line and kind
    /// included; `None` where the frame was observed.
    pub probability: Option<f32>,
    /// How the model came to the frame, step by step: what it took the parts
    /// of the expressions to be that ran just before, such as `7 % 5 = 2`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub working: Vec<String>,
}

/// A value and its origin as one JSON object instead of a pair.
fn serialize_value<S: serde::Serializer>(
    value: &Option<(Arc<str>, Origin)>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Flat<'a> {
        value: &'a str,
        #[serde(flatten)]
        origin: Origin,
    }
    value
        .as_ref()
        .map(|(value, origin)| Flat {
            value,
            origin: *origin,
        })
        .serialize(serializer)
}

impl Frame {
    /// The variable called `name`, if it is bound here.
    pub fn variable(&self, name: &str) -> Option<&Variable> {
        self.locals.iter().find(|variable| &*variable.name == name)
    }

    /// Whether the kind shows the state of its activation.
    pub fn has_state(&self) -> bool {
        matches!(
            self.kind,
            EventKind::Call | EventKind::Resume | EventKind::Line
        )
    }

    /// Makes the frame self-contained, given the latest earlier frame of the
    /// *same activation* that has state: resolves [`UNCHANGED`] values and
    /// marks what changed. Calls of other functions in between, finished or
    /// not, play no part.
    ///
    /// A fresh call marks nothing: all of its variables are new.
    ///
    /// # Errors
    ///
    /// [`PredictError::Malformed`] where a value claims to be unchanged and
    /// was never known.
    pub fn settle(&mut self, earlier: Option<&Frame>) -> Result<(), PredictError> {
        for variable in &mut self.locals {
            if &*variable.value != UNCHANGED {
                continue;
            }
            let Some(before) = earlier.and_then(|frame| frame.variable(&variable.name)) else {
                return Err(PredictError::Malformed(format!(
                    "`{}` is said to be unchanged at line {} of {}, but had no value before",
                    variable.name, self.line, self.function
                )));
            };
            variable.value = Arc::clone(&before.value);
            variable.origin = before.origin;
        }
        self.mark_changes(earlier);
        Ok(())
    }

    /// Marks what is new or different since `earlier`.
    pub(crate) fn mark_changes(&mut self, earlier: Option<&Frame>) {
        let fresh = self.kind == EventKind::Call;
        for variable in &mut self.locals {
            let before = earlier.and_then(|frame| frame.variable(&variable.name));
            variable.changed = !fresh && before.is_none_or(|before| before.value != variable.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: EventKind, locals: &[(&str, &str)]) -> Frame {
        let origin = Origin::Predicted { probability: 0.9 };
        let variable = |&(name, value): &(&str, &str)| Variable {
            name: name.into(),
            value: value.into(),
            origin,
            changed: false,
        };
        Frame {
            kind,
            function: "f".into(),
            line: 2,
            depth: 0,
            activation: 0,
            locals: locals.iter().map(variable).collect(),
            value: None,
            probability: Some(0.9),
            working: Vec::new(),
        }
    }

    fn changed(frame: &Frame) -> Vec<&str> {
        frame
            .locals
            .iter()
            .filter(|v| v.changed)
            .map(|v| &*v.name)
            .collect()
    }

    #[test]
    fn settling_marks_new_and_changed_variables_only() {
        let earlier = frame(EventKind::Call, &[("a", "1"), ("b", "2")]);
        let mut now = frame(EventKind::Line, &[("a", "1"), ("b", "3"), ("c", "4")]);
        now.settle(Some(&earlier)).unwrap();
        assert_eq!(changed(&now), ["b", "c"]);
    }

    #[test]
    fn settling_a_call_marks_nothing() {
        let mut now = frame(EventKind::Call, &[("a", "1")]);
        now.settle(None).unwrap();
        assert_eq!(changed(&now), Vec::<&str>::new());
    }

    #[test]
    fn an_unchanged_value_keeps_its_origin() {
        let mut earlier = frame(EventKind::Call, &[("a", "1")]);
        earlier.locals[0].origin = Origin::Given;
        let mut now = frame(EventKind::Line, &[("a", "..")]);
        now.settle(Some(&earlier)).unwrap();
        assert_eq!(
            (&*now.locals[0].value, now.locals[0].origin),
            ("1", Origin::Given)
        );
    }

    #[test]
    fn an_unchanged_value_without_a_past_is_malformed() {
        let error = frame(EventKind::Line, &[("a", "..")])
            .settle(None)
            .unwrap_err();
        assert!(matches!(error, PredictError::Malformed(_)), "{error}");
    }

    #[test]
    fn values_serialise_flat_with_their_origin() {
        let mut now = frame(EventKind::Return, &[]);
        now.value = Some(("4".into(), Origin::Observed));
        let json = serde_json::to_value(&now).unwrap();
        assert_eq!(
            json["value"],
            serde_json::json!({"value": "4", "origin": "observed"})
        );
    }
}
