//! [`Report`]: the figures of an evaluation.

use serde_json::{Map, Value, json};

use crate::Rate;
use crate::score::RunScore;

/// What an evaluation measured. A rate without trials was not measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Items evaluated.
    pub items: u64,
    /// Free-run output equals the real one, over items that return.
    pub output_exact: Rate,
    /// The same over items whose real output is not their first argument.
    pub output_exact_non_echo: Rate,
    /// Teacher-forced: the whole frame is right.
    pub frame_exact: Rate,
    /// Teacher-forced: kind and line are right.
    pub action_exact: Rate,
    /// Teacher-forced: all locals are right, over frames that show them.
    pub state_exact: Rate,
    /// Free-run: every frame of the run is right, to its end.
    pub trace_exact: Rate,
    /// Free-run: the run reached its end without a malformed or illegal frame.
    pub valid_format: Rate,
    /// Sum over items of right free-run frames before the first wrong one.
    pub frames_before_divergence: u64,
    /// Items that could not be shown to the model at all, counted as wrong.
    pub unreadable: u64,
}

impl Report {
    /// Adds one run.
    pub(crate) fn add(&mut self, run: &RunScore) {
        self.items += 1;
        self.unreadable += u64::from(!run.readable);
        self.frames_before_divergence += run.right as u64;
        self.trace_exact.add(run.exact);
        self.valid_format.add(run.ended);
        if let Some(is_right) = run.output {
            self.output_exact.add(is_right);
            if !run.is_echo {
                self.output_exact_non_echo.add(is_right);
            }
        }
        for frame in &run.frames {
            self.frame_exact.add(frame.frame);
            self.action_exact.add(frame.action);
            if let Some(state) = frame.state {
                self.state_exact.add(state);
            }
        }
    }

    /// Adds another report's items.
    pub fn merge(&mut self, other: &Self) {
        self.items += other.items;
        self.frames_before_divergence += other.frames_before_divergence;
        self.unreadable += other.unreadable;
        self.output_exact.merge(other.output_exact);
        self.output_exact_non_echo
            .merge(other.output_exact_non_echo);
        self.frame_exact.merge(other.frame_exact);
        self.action_exact.merge(other.action_exact);
        self.state_exact.merge(other.state_exact);
        self.trace_exact.merge(other.trace_exact);
        self.valid_format.merge(other.valid_format);
    }

    /// The rates by name, in order.
    pub fn rates(&self) -> [(&'static str, Rate); 7] {
        [
            ("output_exact", self.output_exact),
            ("output_exact_non_echo", self.output_exact_non_echo),
            ("frame_exact", self.frame_exact),
            ("action_exact", self.action_exact),
            ("state_exact", self.state_exact),
            ("trace_exact", self.trace_exact),
            ("valid_format", self.valid_format),
        ]
    }

    /// Right frames before the first wrong one, per item.
    pub fn mean_frames_before_divergence(&self) -> Option<f64> {
        let items = self.trace_exact.count;
        (items > 0).then(|| self.frames_before_divergence as f64 / items as f64)
    }

    /// One flat object: `items`, each rate as a number in 0..=1 (null where
    /// nothing was measured), and under `counts` and `wilson95` the trials
    /// and the interval of each.
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        let mut counts = Map::new();
        let mut wilson = Map::new();
        out.insert("items".into(), json!(self.items));
        for (name, rate) in self.rates() {
            out.insert(name.into(), json!(rate.value()));
            counts.insert(name.into(), json!(rate.count));
            wilson.insert(name.into(), json!(rate.wilson()));
        }
        out.insert(
            "frames_before_divergence".into(),
            json!(self.mean_frames_before_divergence()),
        );
        out.insert("unreadable".into(), json!(self.unreadable));
        out.insert("counts".into(), Value::Object(counts));
        out.insert("wilson95".into(), Value::Object(wilson));
        Value::Object(out)
    }
}
