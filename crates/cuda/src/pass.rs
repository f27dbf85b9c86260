//! The transformer's layers on a device, forward and backward, over one packed row.
//!
//! The same steps as `cwm_model`'s, in the same order; what differs is where numbers are rounded: operands of
//! products, and gradients on their way between them, are bf16. The residual stream, its gradient and all
//! gradients of parameters are f32.

use std::ops::Range;

use cwm_kernels::{AttentionShape, Direction};
use cwm_model::{LayerTensors, LayerType, Outcome};

use crate::device::{Buffer, Gpu};
use crate::error::Error;
use crate::network::{Network, Target, backward_weight};
use crate::ops::{self, SegmentLists, Segments, Visible};
use crate::row::{Chunk, Mask, PackedRow};
use crate::workspace::{Gradients, Head, Keep, Layer, Shared, Workspace};

/// A packed row in device memory: all of it, before the first kernel of a pass, since a copy from the host
/// waits for the device.
struct Uploaded {
    rows: usize,
    positions: Buffer<u32>,
    sources: Buffer<u32>,
    sources_per_token: usize,
    /// Only where gradients are computed.
    to_tables: Option<Segments>,
    full: Visible,
    sliding: Option<Visible>,
    chunks: Vec<UploadedChunk>,
}

/// Some targets in device memory.
struct UploadedChunk {
    n_targets: usize,
    /// Where the residual streams of their rows begin.
    starts: Buffer<u32>,
    ids: Buffer<u32>,
    weights: Buffer<f32>,
    /// Only where gradients are computed.
    scatter: Option<Segments>,
}

impl Uploaded {
    fn new(gpu: &Gpu, row: &PackedRow, hidden: usize, keep: Keep) -> Result<Self, Error> {
        let visible = |mask: &Mask| Visible::new(gpu, &mask.spans, &mask.tiles);
        let segments = |lists: &SegmentLists| {
            let needed = (keep != Keep::Last).then(|| Segments::new(gpu, lists));
            needed.transpose()
        };
        let chunk = |chunk: &Chunk| -> Result<UploadedChunk, Error> {
            let starts: Vec<u32> = chunk.rows.iter().map(|row| row * hidden as u32).collect();
            Ok(UploadedChunk {
                n_targets: chunk.rows.len(),
                starts: gpu.upload(&starts)?,
                ids: gpu.upload(&chunk.ids)?,
                weights: gpu.upload(&chunk.weights)?,
                scatter: segments(&chunk.scatter)?,
            })
        };
        Ok(Self {
            rows: row.len(),
            positions: gpu.upload(&row.positions)?,
            sources: gpu.upload(&row.sources)?,
            sources_per_token: row.sources_per_token,
            to_tables: segments(&row.to_tables)?,
            full: visible(&row.full)?,
            sliding: row.sliding.as_ref().map(visible).transpose()?,
            chunks: row.chunks.iter().map(chunk).collect::<Result<_, _>>()?,
        })
    }

    fn visible(&self, kind: LayerType) -> &Visible {
        match (kind, &self.sliding) {
            (LayerType::Sliding, Some(sliding)) => sliding,
            _ => &self.full,
        }
    }
}

impl Network {
    /// How each target of a row comes out, in their order.
    ///
    /// # Errors
    /// When device memory is full or the device is lost.
    pub fn outcomes(
        &mut self,
        row: &PackedRow,
        workspace: &mut Workspace,
    ) -> Result<Vec<Outcome>, Error> {
        let row = self.begin(row, workspace)?;
        self.forward_layers(&row, workspace)?;
        let last = &workspace.inputs[last_input(workspace.keep(), self.config.n_layers)];
        let mut first = 0;
        for chunk in &row.chunks {
            self.head(chunk, last, &mut workspace.head, 0.0, first)?;
            first += chunk.n_targets;
        }
        workspace.head.outcomes(first)
    }

    /// Logits `[n, vocab]` behind the rows of a row's targets, in their order.
    ///
    /// # Errors
    /// As [`outcomes`](Self::outcomes).
    pub fn logits(
        &mut self,
        row: &PackedRow,
        workspace: &mut Workspace,
    ) -> Result<Vec<f32>, Error> {
        let row = self.begin(row, workspace)?;
        self.forward_layers(&row, workspace)?;
        let last = &workspace.inputs[last_input(workspace.keep(), self.config.n_layers)];
        let mut logits = Vec::new();
        for chunk in &row.chunks {
            self.head_logits(chunk, last, &mut workspace.head)?;
            let len = chunk.n_targets * self.config.vocab_size;
            logits.extend(workspace.head.logits.read(len)?);
        }
        Ok(logits)
    }

    /// How each target comes out, and *adds* the gradient of `scale * sum(weight * cross-entropy)` to `grads`,
    /// which is laid out like the parameters.
    ///
    /// # Errors
    /// As [`outcomes`](Self::outcomes).
    ///
    /// # Panics
    /// If the workspace keeps nothing for the way back, or `grads` is of another length.
    pub fn forward_backward(
        &mut self,
        row: &PackedRow,
        scale: f32,
        grads: &mut Buffer<f32>,
        workspace: &mut Workspace,
    ) -> Result<Vec<Outcome>, Error> {
        assert_ne!(
            workspace.keep(),
            Keep::Last,
            "a workspace without gradients"
        );
        assert_eq!(grads.len(), self.params.len(), "gradients of another model");
        let n_targets = row.n_targets();
        let row = self.begin(row, workspace)?;
        self.forward_layers(&row, workspace)?;
        self.head_backward(&row, scale, grads, workspace)?;
        self.backward_layers(&row, grads, workspace)?;
        let (gradients, hidden) = (needed(&mut workspace.gradients), self.config.hidden_size);
        if let Some(to_tables) = &row.to_tables {
            ops::segment_sum(
                grads,
                &gradients.residual,
                to_tables,
                hidden,
                &mut gradients.partial,
            )?;
        }
        workspace.head.outcomes(n_targets)
    }

    fn begin(&mut self, row: &PackedRow, workspace: &mut Workspace) -> Result<Uploaded, Error> {
        workspace.reserve(row.len(), row.n_targets())?;
        self.reach(row.positions.iter().copied().max().unwrap_or(0))?;
        let hidden = self.config.hidden_size;
        let row = Uploaded::new(self.gpu(), row, hidden, workspace.keep())?;
        let scatters = row.chunks.iter().map(|chunk| &chunk.scatter);
        let segments = scatters.chain([&row.to_tables]).flatten();
        let partial = segments.map(|segments| segments.partial_len(hidden)).max();
        workspace.reserve_partial(partial.unwrap_or(0))?;
        Ok(row)
    }

    fn layer<'a>(&'a self, index: usize, row: &'a Uploaded) -> Pass<'a> {
        Pass {
            network: self,
            tensors: &self.layout.layers()[index],
            shape: self.config.attention_shape(),
            row,
            visible: row.visible(self.config.layer_types[index]),
        }
    }

    /// Runs every layer. The last residual stream is then in the input [`last_input`].
    fn forward_layers(&self, row: &Uploaded, workspace: &mut Workspace) -> Result<(), Error> {
        let keep = workspace.keep();
        let Workspace {
            inputs,
            layers,
            shared,
            ..
        } = workspace;
        let (per_token, hidden) = (row.sources_per_token, self.config.hidden_size);
        ops::gather_sum(
            &mut inputs[0],
            &self.params,
            &row.sources,
            per_token,
            row.rows,
            hidden,
        )?;
        for index in 0..self.config.n_layers {
            let (from, to) = match keep {
                Keep::Everything | Keep::Inputs => (index, index + 1),
                Keep::Last => (index % 2, 1 - index % 2),
            };
            let [input, out] = two(inputs, from, to);
            let slot = match keep {
                Keep::Everything => &mut layers[index],
                Keep::Inputs | Keep::Last => &mut layers[0],
            };
            self.layer(index, row).forward(input, out, slot, shared)?;
        }
        Ok(())
    }

    /// Takes the gradient of the last residual stream in `gradients.residual` down to the first.
    fn backward_layers(
        &self,
        row: &Uploaded,
        grads: &mut Buffer<f32>,
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        let keep = workspace.keep();
        let Workspace {
            inputs,
            layers,
            shared,
            gradients,
            ..
        } = workspace;
        let gradients = needed(gradients);
        for index in (0..self.config.n_layers).rev() {
            let layer = self.layer(index, row);
            let slot = match keep {
                Keep::Everything => &mut layers[index],
                Keep::Inputs | Keep::Last => &mut layers[0],
            };
            if let Some(again) = &mut gradients.again {
                layer.forward(&inputs[index], again, slot, shared)?;
            }
            layer.backward_feed_forward(slot, grads, shared, gradients)?;
            layer.backward_attention(&inputs[index], slot, grads, shared, gradients)?;
        }
        Ok(())
    }

    /// Logits of a chunk of targets.
    fn head_logits(
        &self,
        chunk: &UploadedChunk,
        last: &Buffer<f32>,
        head: &mut Head,
    ) -> Result<(), Error> {
        let (rows, hidden) = (chunk.n_targets, self.config.hidden_size);
        ops::gather_sum(&mut head.gathered, last, &chunk.starts, 1, rows, hidden)?;
        ops::rms_norm(
            &mut head.normed,
            &mut head.inverse,
            &head.gathered,
            &self.params,
            self.layout.final_norm(),
            rows,
            self.config.rms_norm_eps,
        )?;
        let logits = Target::Full(&mut head.logits);
        self.forward(logits, &head.normed, self.layout.head(), rows, hidden)
    }

    /// How a chunk of targets comes out, into the head's lists from entry `first` on; the gradient of its
    /// logits is in `head.d_logits` afterwards.
    fn head(
        &self,
        chunk: &UploadedChunk,
        last: &Buffer<f32>,
        head: &mut Head,
        scale: f32,
        first: usize,
    ) -> Result<(), Error> {
        self.head_logits(chunk, last, head)?;
        let rows = chunk.n_targets;
        ops::cross_entropy(
            &mut head.d_logits,
            &mut head.losses,
            &mut head.correct,
            &head.logits,
            &chunk.ids,
            &chunk.weights,
            scale,
            rows,
            self.config.vocab_size,
        )?;
        head.all_losses.copy_at(first, &head.losses, rows)?;
        head.all_correct.copy_at(first, &head.correct, rows)
    }

    /// Loss of all targets, and its gradient down to the last residual stream.
    fn head_backward(
        &self,
        row: &Uploaded,
        scale: f32,
        grads: &mut Buffer<f32>,
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        let last = last_input(workspace.keep(), self.config.n_layers);
        let (hidden, weight) = (self.config.hidden_size, self.layout.head());
        let Workspace {
            inputs,
            gradients,
            head,
            ..
        } = workspace;
        let Gradients {
            residual, partial, ..
        } = needed(gradients);
        residual.clear()?;
        let mut first = 0;
        for chunk in &row.chunks {
            let rows = chunk.n_targets;
            self.head(chunk, &inputs[last], head, scale, first)?;
            first += rows;
            backward_weight(
                grads,
                &head.d_logits,
                &head.normed,
                weight.clone(),
                rows,
                hidden,
            )?;
            let d_normed = Target::Rounded(&mut head.d_normed);
            self.backward_input(d_normed, &head.d_logits, weight.clone(), rows, hidden)?;
            head.d_gathered.clear()?;
            ops::rms_norm_backward(
                &mut head.d_gathered,
                grads,
                &head.d_normed,
                &head.gathered,
                &head.inverse,
                &self.params,
                self.layout.final_norm(),
                rows,
                partial,
            )?;
            if let Some(scatter) = &chunk.scatter {
                ops::segment_sum(residual, &head.d_gathered, scatter, hidden, partial)?;
            }
        }
        Ok(())
    }
}

/// Which input holds the last residual stream.
fn last_input(keep: Keep, n_layers: usize) -> usize {
    match keep {
        Keep::Everything | Keep::Inputs => n_layers,
        Keep::Last => n_layers % 2,
    }
}

/// The gradients of a workspace that was made for the way back.
///
/// # Panics
/// If it was not.
fn needed(gradients: &mut Option<Gradients>) -> &mut Gradients {
    match gradients {
        Some(gradients) => gradients,
        None => panic!("a workspace without gradients"),
    }
}

/// Two different residual streams.
///
/// # Panics
/// If they are the same, or not there.
fn two(inputs: &mut [Buffer<f32>], from: usize, to: usize) -> [&mut Buffer<f32>; 2] {
    match inputs.get_disjoint_mut([from, to]) {
        Ok(pair) => pair,
        Err(error) => panic!("inputs {from} and {to}: {error}"),
    }
}

/// One layer and what it needs to know of the row.
struct Pass<'a> {
    network: &'a Network,
    tensors: &'a LayerTensors,
    shape: AttentionShape,
    row: &'a Uploaded,
    visible: &'a Visible,
}

impl Pass<'_> {
    fn rows(&self) -> usize {
        self.row.rows
    }

    fn hidden(&self) -> usize {
        self.network.config.hidden_size
    }

    fn inner(&self) -> usize {
        self.network.config.intermediate_size
    }

    /// Turns the queries and keys of rows of `qkv`.
    fn rotate(&self, qkv: &mut Buffer<half::bf16>, direction: Direction) -> Result<(), Error> {
        let (shape, rope) = (self.shape, &self.network.rope);
        ops::rope(
            qkv,
            ops::qkv_width(shape),
            shape.n_heads + shape.n_kv_heads,
            shape.head_dim,
            &self.row.positions,
            &rope.cos,
            &rope.sin,
            self.rows(),
            direction,
        )
    }

    fn norm(
        &self,
        normed: &mut Buffer<half::bf16>,
        inverse: &mut Buffer<f32>,
        x: &Buffer<f32>,
        weight: &Range<usize>,
    ) -> Result<(), Error> {
        let (params, eps) = (&self.network.params, self.network.config.rms_norm_eps);
        ops::rms_norm(normed, inverse, x, params, weight.clone(), self.rows(), eps)
    }

    fn forward(
        &self,
        input: &Buffer<f32>,
        out: &mut Buffer<f32>,
        slot: &mut Layer,
        shared: &mut Shared,
    ) -> Result<(), Error> {
        let (network, tensors, rows) = (self.network, self.tensors, self.rows());
        let (hidden, inner, q_width) = (self.hidden(), self.inner(), self.shape.q_width());
        let normed = &mut shared.normed;

        self.norm(
            normed,
            &mut slot.attention_inverse,
            input,
            &tensors.attention_norm,
        )?;
        let qkv = Target::Rounded(&mut slot.qkv);
        network.forward(qkv, normed, tensors.qkv(), rows, hidden)?;
        self.rotate(&mut slot.qkv, Direction::Forward)?;
        ops::attention(
            &mut slot.attended,
            &mut slot.sums,
            &slot.qkv,
            self.visible,
            self.shape,
        )?;
        slot.middle.copy_from(input, rows * hidden)?;
        let middle = Target::Add(&mut slot.middle);
        network.forward(middle, &slot.attended, tensors.o.clone(), rows, q_width)?;

        self.norm(
            normed,
            &mut slot.mlp_inverse,
            &slot.middle,
            &tensors.mlp_norm,
        )?;
        let gate_up = Target::Rounded(&mut slot.gate_up);
        network.forward(gate_up, normed, tensors.gate_up(), rows, hidden)?;
        ops::swiglu(&mut shared.product, &slot.gate_up, rows, inner)?;
        out.copy_from(&slot.middle, rows * hidden)?;
        network.forward(
            Target::Add(out),
            &shared.product,
            tensors.down.clone(),
            rows,
            inner,
        )
    }

    /// From the gradient of the layer's output to that of `middle`, both in `gradients.residual`.
    fn backward_feed_forward(
        &self,
        slot: &mut Layer,
        grads: &mut Buffer<f32>,
        shared: &mut Shared,
        gradients: &mut Gradients,
    ) -> Result<(), Error> {
        let (network, tensors, rows) = (self.network, self.tensors, self.rows());
        let (hidden, inner) = (self.hidden(), self.inner());
        self.norm(
            &mut shared.normed,
            &mut slot.mlp_inverse,
            &slot.middle,
            &tensors.mlp_norm,
        )?;
        ops::swiglu(&mut shared.product, &slot.gate_up, rows, inner)?;

        let d_out = &mut gradients.rounded;
        ops::to_bf16(d_out, &gradients.residual, 0..rows * hidden)?;
        backward_weight(
            grads,
            d_out,
            &shared.product,
            tensors.down.clone(),
            rows,
            inner,
        )?;
        let d_product = Target::Rounded(&mut gradients.product);
        network.backward_input(d_product, d_out, tensors.down.clone(), rows, inner)?;
        let (d_gate_up, d_product) = (&mut gradients.gate_up, &gradients.product);
        ops::swiglu_backward(d_gate_up, d_product, &slot.gate_up, rows, inner)?;
        backward_weight(
            grads,
            d_gate_up,
            &shared.normed,
            tensors.gate_up(),
            rows,
            hidden,
        )?;
        let d_normed = Target::Rounded(&mut gradients.normed);
        network.backward_input(d_normed, d_gate_up, tensors.gate_up(), rows, hidden)?;
        self.norm_backward(
            &slot.middle,
            &slot.mlp_inverse,
            &tensors.mlp_norm,
            grads,
            gradients,
        )
    }

    /// From the gradient of `middle` to that of the layer's input, both in `gradients.residual`.
    fn backward_attention(
        &self,
        input: &Buffer<f32>,
        slot: &mut Layer,
        grads: &mut Buffer<f32>,
        shared: &mut Shared,
        gradients: &mut Gradients,
    ) -> Result<(), Error> {
        let (network, tensors, rows) = (self.network, self.tensors, self.rows());
        let (hidden, q_width) = (self.hidden(), self.shape.q_width());
        let inverse = &mut slot.attention_inverse;
        self.norm(&mut shared.normed, inverse, input, &tensors.attention_norm)?;

        let d_middle = &mut gradients.rounded;
        ops::to_bf16(d_middle, &gradients.residual, 0..rows * hidden)?;
        backward_weight(
            grads,
            d_middle,
            &slot.attended,
            tensors.o.clone(),
            rows,
            q_width,
        )?;
        let d_attended = Target::Rounded(&mut gradients.attended);
        network.backward_input(d_attended, d_middle, tensors.o.clone(), rows, q_width)?;
        ops::attention_backward(
            &mut gradients.qkv,
            &gradients.attended,
            &slot.attended,
            &mut slot.sums,
            &slot.qkv,
            self.visible,
            self.shape,
        )?;
        self.rotate(&mut gradients.qkv, Direction::Backward)?;
        backward_weight(
            grads,
            &gradients.qkv,
            &shared.normed,
            tensors.qkv(),
            rows,
            hidden,
        )?;
        let d_normed = Target::Rounded(&mut gradients.normed);
        network.backward_input(d_normed, &gradients.qkv, tensors.qkv(), rows, hidden)?;
        self.norm_backward(
            input,
            &slot.attention_inverse,
            &tensors.attention_norm,
            grads,
            gradients,
        )
    }

    /// Adds to the residual's gradient what comes by way of a norm.
    fn norm_backward(
        &self,
        x: &Buffer<f32>,
        inverse: &Buffer<f32>,
        weight: &Range<usize>,
        grads: &mut Buffer<f32>,
        gradients: &mut Gradients,
    ) -> Result<(), Error> {
        ops::rms_norm_backward(
            &mut gradients.residual,
            grads,
            &gradients.normed,
            x,
            inverse,
            &self.network.params,
            weight.clone(),
            self.rows(),
            &mut gradients.partial,
        )
    }
}
