//! The model: parameters with their layout, and the ways to run them.

use std::sync::Arc;

use cwm_kernels::{Precision, Span, Store, cross_entropy, rms_norm, rms_norm_backward};

use crate::pass;
use crate::row::{Outcome, Row, RowLoss, Target, check_targets, check_tokens};
use crate::tokens::Tokens;
use crate::workspace::{Head, Keep, head_rows};
use crate::{Config, Error, Layout, RowError, Workspace, causal_spans, init, linear};

/// A transformer of the CWM family with its weights in f32.
///
/// Every pass is single-threaded and deterministic; run rows on several
/// threads, each with its own [`Workspace`].
#[derive(Clone, Debug)]
pub struct Model {
    /// The architecture.
    pub config: Config,
    /// Where each tensor lies in `params`.
    pub layout: Arc<Layout>,
    /// All parameters.
    pub params: Vec<f32>,
}

/// Where a training pass puts gradients.
struct GradientSink<'a> {
    scale: f32,
    params: &'a mut [f32],
    residual: &'a mut [f32],
}

impl Model {
    /// A model with fresh weights: normal(0, 0.02), projections into the
    /// residual stream scaled by `1 / sqrt(2 * n_layers)`, norms 1. The same
    /// seed gives the same bits. The config must be
    /// [valid](Config::validate).
    pub fn init(config: Config, seed: u64) -> Self {
        let layout = Layout::new(&config);
        let params = init::parameters(&config, &layout, seed);
        Self {
            config,
            layout: Arc::new(layout),
            params,
        }
    }

    /// Logits `[T, vocab]` of one document.
    ///
    /// # Errors
    /// [`Error::Row`] when the ids do not fit the model.
    pub fn logits(&self, ids: &[u32]) -> Result<Vec<f32>, Error> {
        let positions = document_positions(ids);
        let spans = causal_spans(ids.len());
        self.forward(ids, &positions, &spans, &mut Workspace::new())
    }

    /// The residual stream `[T, hidden]` of one document as `transformers`
    /// reports `hidden_states`: entry 0 is the embeddings, entry `i` what
    /// layer `i` (from 1) put out, except that the last entry has been
    /// through the final norm.
    ///
    /// # Errors
    /// [`Error::Row`] when the ids do not fit the model.
    pub fn hidden_states(&self, ids: &[u32]) -> Result<Vec<Vec<f32>>, Error> {
        let mut workspace = Workspace::new();
        let positions = document_positions(ids);
        let spans = causal_spans(ids.len());
        let tokens = self.check(ids, &positions, &spans, &mut workspace)?;
        pass::forward(self, tokens, Keep::Everything, &mut workspace);
        let mut states: Vec<Vec<f32>> = workspace
            .layers
            .into_iter()
            .map(|layer| layer.input)
            .collect();
        if let Some(last) = states.last_mut() {
            let mut normed = vec![0.0; last.len()];
            self.final_norm(&mut normed, last);
            *last = normed;
        }
        Ok(states)
    }

    /// Logits `[T, vocab]` of every token of a row.
    ///
    /// # Errors
    /// [`Error::Row`] when the row does not fit the model or itself.
    pub fn forward(
        &self,
        ids: &[u32],
        positions: &[u32],
        spans: &[Span],
        workspace: &mut Workspace,
    ) -> Result<Vec<f32>, Error> {
        let tokens = self.check(ids, positions, spans, workspace)?;
        pass::forward(self, tokens, Keep::Last, workspace);
        let last = &workspace.layers[Keep::Last.slot(self.config.n_layers)].input;
        self.final_norm(&mut workspace.shared.normed, last);
        let mut logits = vec![0.0; ids.len() * self.config.vocab_size];
        linear::forward(
            &mut logits,
            &workspace.shared.normed,
            &self.params[self.layout.head()],
            ids.len(),
            Store::Overwrite,
            workspace.scratch.precision(),
        );
        Ok(logits)
    }

    /// Loss of a row's targets.
    ///
    /// # Errors
    /// [`Error::Row`] when the row does not fit the model or itself.
    pub fn loss(&self, row: &Row<'_>, workspace: &mut Workspace) -> Result<RowLoss, Error> {
        let tokens = self.check(row.ids, row.positions, row.spans, workspace)?;
        check_targets(&self.config, row.ids.len(), row.targets)?;
        if row.targets.is_empty() {
            workspace.head.outcomes.clear();
            return Ok(RowLoss::default());
        }
        pass::forward(self, tokens, Keep::Last, workspace);
        let precision = workspace.scratch.precision();
        let last = &workspace.layers[Keep::Last.slot(self.config.n_layers)].input;
        Ok(self.head(row.targets, last, &mut workspace.head, None, precision))
    }

    /// Loss of a row's targets, and *adds* the gradient of
    /// `scale * sum(weight * cross-entropy)` to `grads`, which is laid out
    /// like [`Model::params`].
    ///
    /// # Errors
    /// [`Error::Row`] when the row does not fit the model or itself,
    /// [`Error::GradientLength`] for a buffer of the wrong size; `grads` is
    /// then untouched.
    pub fn forward_backward(
        &self,
        row: &Row<'_>,
        scale: f32,
        grads: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<RowLoss, Error> {
        let tokens = self.check(row.ids, row.positions, row.spans, workspace)?;
        check_targets(&self.config, row.ids.len(), row.targets)?;
        if grads.len() != self.params.len() {
            return Err(Error::GradientLength {
                expected: self.params.len(),
                found: grads.len(),
            });
        }
        if row.targets.is_empty() {
            workspace.head.outcomes.clear();
            return Ok(RowLoss::default());
        }
        let keep = workspace.keep_for_training();
        pass::forward(self, tokens, keep, workspace);
        workspace.size_gradients(&self.config, row.ids.len());
        let residual = &mut workspace.gradients.residual;
        residual.fill(0.0);
        let precision = workspace.scratch.precision();
        let last = &workspace.layers[keep.slot(self.config.n_layers)].input;
        let sink = GradientSink {
            scale,
            params: grads,
            residual,
        };
        let loss = self.head(
            row.targets,
            last,
            &mut workspace.head,
            Some(sink),
            precision,
        );
        pass::backward(self, tokens, grads, workspace);
        Ok(loss)
    }

    fn check<'a>(
        &self,
        ids: &'a [u32],
        positions: &'a [u32],
        spans: &'a [Span],
        workspace: &mut Workspace,
    ) -> Result<Tokens<'a>, RowError> {
        check_tokens(&self.config, ids, positions, spans, &mut workspace.falls)?;
        Ok(Tokens {
            ids,
            positions,
            spans,
        })
    }

    fn final_norm(&self, out: &mut [f32], x: &[f32]) {
        let weight = &self.params[self.layout.final_norm()];
        rms_norm(out, x, weight, self.config.rms_norm_eps);
    }

    /// Final norm, head and cross-entropy of the targets' rows, a chunk at a
    /// time; with a sink also their gradients.
    fn head(
        &self,
        targets: &[Target],
        last: &[f32],
        head: &mut Head,
        mut sink: Option<GradientSink<'_>>,
        precision: Precision,
    ) -> RowLoss {
        let hidden = self.config.hidden_size;
        let span = |row: u32| row as usize * hidden..(row as usize + 1) * hidden;
        let mut loss = RowLoss::default();
        head.outcomes.clear();
        for chunk in targets.chunks(head_rows(&self.config)) {
            head.resize(&self.config, chunk.len());
            for (index, target) in chunk.iter().enumerate() {
                head.gathered[span(index as u32)].copy_from_slice(&last[span(target.row)]);
                head.ids[index] = target.id;
                head.weights[index] = target.weight;
                loss.weight_sum += f64::from(target.weight);
            }
            self.final_norm(&mut head.normed, &head.gathered);
            let weight = &self.params[self.layout.head()];
            let rows = chunk.len();
            linear::forward(
                &mut head.logits,
                &head.normed,
                weight,
                rows,
                Store::Overwrite,
                precision,
            );
            let scale = sink.as_ref().map_or(0.0, |sink| sink.scale);
            loss.n_targets += rows;
            let logits = head.logits.chunks_exact_mut(self.config.vocab_size);
            for (index, logits) in logits.enumerate() {
                let (id, weight) = (&head.ids[index..=index], &head.weights[index..=index]);
                let found = cross_entropy(logits, id, weight, scale);
                loss.loss_sum += found.loss_sum;
                loss.correct += found.correct;
                head.outcomes.push(Outcome {
                    loss: found.loss_sum,
                    correct: found.correct == 1,
                });
            }
            if let Some(sink) = &mut sink {
                self.head_backward(head, rows, sink.params, precision);
                for (target, gradient) in chunk.iter().zip(head.d_gathered.chunks_exact(hidden)) {
                    cwm_kernels::add(&mut sink.residual[span(target.row)], gradient);
                }
            }
        }
        loss
    }

    /// From the gradient of logits to that of the gathered rows.
    fn head_backward(&self, head: &mut Head, rows: usize, grads: &mut [f32], precision: Precision) {
        let (range, norm) = (self.layout.head(), self.layout.final_norm());
        let d_weight = &mut grads[range.clone()];
        linear::backward_weight(d_weight, &head.logits, &head.normed, rows, precision);
        let weight = &self.params[range];
        linear::backward_input(
            &mut head.d_normed,
            &head.logits,
            weight,
            rows,
            Store::Overwrite,
            precision,
        );
        head.d_gathered.fill(0.0);
        rms_norm_backward(
            &mut head.d_gathered,
            &mut grads[norm.clone()],
            &head.d_normed,
            &head.gathered,
            &self.params[norm],
            self.config.rms_norm_eps,
        );
    }
}

fn document_positions(ids: &[u32]) -> Vec<u32> {
    (0..ids.len() as u32).collect()
}
