//! The transformer's layers, forward and backward, over one checked row.
//!
//! A layer adds attention of its normed input to the residual stream, then
//! SwiGLU of the normed result. Each backward function is the mirror of the
//! forward function above it and reads in the opposite order.

use std::mem::swap;
use std::ops::Range;

use cwm_kernels::{
    Direction, Precision, RopeTable, Scratch, Span, Store, attention, attention_backward, rms_norm,
    rms_norm_backward, rope, swiglu, swiglu_backward,
};

use crate::config::{Config, LayerType};
use crate::layout::LayerTensors;
use crate::linear;
use crate::model::Model;
use crate::row::window_spans;
use crate::tokens::Tokens;
use crate::workspace::{Gradients, Keep, LayerActivations, Shared, Workspace};

/// Runs every layer. The final residual stream is then the `input` of slot
/// [`Keep::slot`]`(n_layers)`.
pub(crate) fn forward(model: &Model, tokens: Tokens<'_>, keep: Keep, workspace: &mut Workspace) {
    let config = &model.config;
    workspace.size_layers(config, tokens.ids.len(), keep);
    let Workspace {
        rope,
        window_spans: narrowed,
        places,
        layers: slots,
        active,
        shared,
        scratch,
        ..
    } = workspace;
    narrow(narrowed, config, tokens);
    let rope = rope.table(config, tokens.last_position());
    tokens.places(places, config);
    embed(&mut slots[0].input, model, tokens, places);
    for (index, tensors) in model.layout.layers().iter().enumerate() {
        let layer = Layer {
            config,
            params: &model.params,
            tensors,
            positions: tokens.positions,
            spans: visible(config.layer_types[index], tokens, narrowed),
            rope,
            precision: scratch.precision(),
        };
        let slot = keep.slot(index);
        let (done, rest) = slots.split_at_mut(slot + 1);
        let (slot, out) = (&mut done[slot], &mut rest[0].input);
        match keep {
            Keep::Everything => layer.forward(slot, out, shared, scratch),
            Keep::Inputs => {
                swap(&mut slot.input, &mut active.input);
                layer.forward(active, out, shared, scratch);
                swap(&mut slot.input, &mut active.input);
            }
            Keep::Last => {
                layer.forward(slot, out, shared, scratch);
                slots.swap(0, 1);
            }
        }
    }
}

/// Takes the gradient of the final residual stream in `gradients.residual`
/// down to the embeddings, adding every parameter's gradient to `grads`.
/// Follows a [`forward`] that kept what this workspace keeps for training.
pub(crate) fn backward(
    model: &Model,
    tokens: Tokens<'_>,
    grads: &mut [f32],
    workspace: &mut Workspace,
) {
    let config = &model.config;
    let Workspace {
        rope,
        window_spans: narrowed,
        places,
        recompute,
        layers: slots,
        active,
        again,
        shared,
        gradients,
        scratch,
        ..
    } = workspace;
    let rope = rope.table(config, tokens.last_position());
    for (index, tensors) in model.layout.layers().iter().enumerate().rev() {
        let layer = Layer {
            config,
            params: &model.params,
            tensors,
            positions: tokens.positions,
            spans: visible(config.layer_types[index], tokens, narrowed),
            rope,
            precision: scratch.precision(),
        };
        let slot = match recompute {
            false => &slots[index],
            true => {
                swap(&mut slots[index].input, &mut active.input);
                layer.forward(active, again, shared, scratch);
                &*active
            }
        };
        layer.backward_feed_forward(slot, grads, shared, gradients);
        layer.backward_attention(slot, grads, shared, gradients, scratch);
    }
    let hidden = config.hidden_size;
    let rows = gradients.residual.chunks_exact(hidden);
    for (index, gradient) in rows.enumerate() {
        for (table, row) in tokens.embedded(&model.layout, places, index) {
            let start = table.start + row as usize * hidden;
            cwm_kernels::add(&mut grads[start..start + hidden], gradient);
        }
    }
}

fn embed(out: &mut [f32], model: &Model, tokens: Tokens<'_>, places: &[Option<u32>]) {
    let hidden = model.config.hidden_size;
    out.fill(0.0);
    for (index, sum) in out.chunks_exact_mut(hidden).enumerate() {
        for (table, row) in tokens.embedded(&model.layout, places, index) {
            let start = table.start + row as usize * hidden;
            cwm_kernels::add(sum, &model.params[start..start + hidden]);
        }
    }
}

fn narrow(out: &mut Vec<Span>, config: &Config, tokens: Tokens<'_>) {
    if config.layer_types.contains(&LayerType::Sliding) {
        window_spans(out, tokens.spans, tokens.positions, config.sliding_window);
    }
}

fn visible<'a>(kind: LayerType, tokens: Tokens<'a>, narrowed: &'a [Span]) -> &'a [Span] {
    match kind {
        LayerType::Full => tokens.spans,
        LayerType::Sliding => narrowed,
    }
}

/// One layer and what it needs to know of the row.
struct Layer<'a> {
    config: &'a Config,
    params: &'a [f32],
    tensors: &'a LayerTensors,
    positions: &'a [u32],
    spans: &'a [Span],
    rope: &'a RopeTable,
    precision: Precision,
}

impl Layer<'_> {
    fn rows(&self) -> usize {
        self.positions.len()
    }

    fn rotate(&self, x: &mut [f32], n_heads: usize, direction: Direction) {
        let head_dim = self.config.head_dim;
        rope(x, n_heads, head_dim, self.positions, self.rope, direction);
    }

    /// `y (+)= x·Wᵀ` for every row; `W` lies at `w`.
    fn multiply(&self, y: &mut [f32], x: &[f32], w: &Range<usize>, store: Store) {
        let weight = &self.params[w.clone()];
        linear::forward(y, x, weight, self.rows(), store, self.precision);
    }

    fn forward(
        &self,
        slot: &mut LayerActivations,
        out: &mut [f32],
        shared: &mut Shared,
        scratch: &mut Scratch,
    ) {
        let (config, params, tensors) = (self.config, self.params, self.tensors);
        let eps = config.rms_norm_eps;
        let normed = &mut shared.normed;

        rms_norm(
            normed,
            &slot.input,
            &params[tensors.attention_norm.clone()],
            eps,
        );
        for (y, w) in [
            (&mut slot.q, &tensors.q),
            (&mut slot.k, &tensors.k),
            (&mut slot.v, &tensors.v),
        ] {
            self.multiply(y, normed, w, Store::Overwrite);
        }
        self.rotate(&mut slot.q, config.n_heads, Direction::Forward);
        self.rotate(&mut slot.k, config.n_kv_heads, Direction::Forward);
        attention(
            &mut slot.attended,
            &mut slot.lse,
            &slot.q,
            &slot.k,
            &slot.v,
            self.spans,
            config.attention_shape(),
            scratch,
        );
        slot.middle.copy_from_slice(&slot.input);
        self.multiply(
            &mut slot.middle,
            &slot.attended,
            &tensors.o,
            Store::Accumulate,
        );

        rms_norm(normed, &slot.middle, &params[tensors.mlp_norm.clone()], eps);
        for (y, w) in [(&mut slot.gate, &tensors.gate), (&mut slot.up, &tensors.up)] {
            self.multiply(y, normed, w, Store::Overwrite);
        }
        swiglu(&mut shared.product, &slot.gate, &slot.up);
        out.copy_from_slice(&slot.middle);
        self.multiply(out, &shared.product, &tensors.down, Store::Accumulate);
    }

    /// From the gradient of the layer's output to that of `middle`, both in
    /// `gradients.residual`: the residual connection passes it through, and
    /// the norm's backward adds what came by way of the feed-forward.
    fn backward_feed_forward(
        &self,
        slot: &LayerActivations,
        grads: &mut [f32],
        shared: &mut Shared,
        gradients: &mut Gradients,
    ) {
        let (params, tensors, rows) = (self.params, self.tensors, self.rows());
        let (eps, norm) = (self.config.rms_norm_eps, &tensors.mlp_norm);
        rms_norm(&mut shared.normed, &slot.middle, &params[norm.clone()], eps);
        swiglu(&mut shared.product, &slot.gate, &slot.up);

        let d_out = &gradients.residual;
        let d_down = &mut grads[tensors.down.clone()];
        linear::backward_weight(d_down, d_out, &shared.product, rows, self.precision);
        let down = &params[tensors.down.clone()];
        linear::backward_input(
            &mut gradients.product,
            d_out,
            down,
            rows,
            Store::Overwrite,
            self.precision,
        );
        swiglu_backward(
            &mut gradients.gate,
            &mut gradients.up,
            &gradients.product,
            &slot.gate,
            &slot.up,
        );
        let outputs = [
            (&gradients.gate[..], &tensors.gate),
            (&gradients.up, &tensors.up),
        ];
        let (dx, x) = (&mut gradients.normed, &shared.normed);
        linear::backward_all(dx, grads, x, params, rows, outputs, self.precision);
        rms_norm_backward(
            &mut gradients.residual,
            &mut grads[norm.clone()],
            &gradients.normed,
            &slot.middle,
            &params[norm.clone()],
            eps,
        );
    }

    /// From the gradient of `middle` to that of the layer's input, both in
    /// `gradients.residual`.
    fn backward_attention(
        &self,
        slot: &LayerActivations,
        grads: &mut [f32],
        shared: &mut Shared,
        gradients: &mut Gradients,
        scratch: &mut Scratch,
    ) {
        let (config, params, tensors) = (self.config, self.params, self.tensors);
        let (rows, eps, norm) = (self.rows(), config.rms_norm_eps, &tensors.attention_norm);
        rms_norm(&mut shared.normed, &slot.input, &params[norm.clone()], eps);

        let d_middle = &gradients.residual;
        let d_o = &mut grads[tensors.o.clone()];
        linear::backward_weight(d_o, d_middle, &slot.attended, rows, self.precision);
        let o = &params[tensors.o.clone()];
        linear::backward_input(
            &mut gradients.attended,
            d_middle,
            o,
            rows,
            Store::Overwrite,
            self.precision,
        );
        attention_backward(
            &mut gradients.q,
            &mut gradients.k,
            &mut gradients.v,
            &gradients.attended,
            &slot.attended,
            &slot.lse,
            &slot.q,
            &slot.k,
            &slot.v,
            self.spans,
            config.attention_shape(),
            scratch,
        );
        self.rotate(&mut gradients.q, config.n_heads, Direction::Backward);
        self.rotate(&mut gradients.k, config.n_kv_heads, Direction::Backward);
        let outputs = [
            (&gradients.q[..], &tensors.q),
            (&gradients.k, &tensors.k),
            (&gradients.v, &tensors.v),
        ];
        let (dx, x) = (&mut gradients.normed, &shared.normed);
        linear::backward_all(dx, grads, x, params, rows, outputs, self.precision);
        rms_norm_backward(
            &mut gradients.residual,
            &mut grads[norm.clone()],
            &gradients.normed,
            &slot.input,
            &params[norm.clone()],
            eps,
        );
    }
}
