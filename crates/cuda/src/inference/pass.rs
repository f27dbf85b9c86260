//! One pass: new tokens of many sequences through all layers.

use cwm_engine::{PageGroup, PageRun, PassPart};
use cwm_kernels::{Direction, Span};
use cwm_model::{Config, LayerTensors, LayerType, Layout, Lookups, Row, RowError};
use half::bf16;

use super::{Inference, State, group_of, lock};
use crate::device::{Buffer, Gpu};
use crate::error::Error;
use crate::network::Target;
use crate::ops::{self, NO_SOURCE, PagedPass, Sequence};
use crate::row::head_rows;

/// What a pass has to know, in device memory.
struct Uploaded {
    rows: usize,
    sources: Buffer<u32>,
    sources_per_token: usize,
    /// Of the groups that have layers.
    global: Option<PagedPass>,
    local: Option<PagedPass>,
    /// Where the residual streams of wanted rows begin.
    wanted: Vec<u32>,
}

/// Memory of a pass; grows where one is larger.
#[derive(Debug, Default)]
pub(super) struct Room {
    buffers: Option<Buffers>,
    partial: Option<Buffer<f32>>,
}

#[derive(Debug)]
struct Buffers {
    rows: usize,
    /// The residual stream `[rows, hidden]`.
    x: Buffer<f32>,
    normed: Buffer<bf16>,
    inverse: Buffer<f32>,
    qkv: Buffer<bf16>,
    attended: Buffer<bf16>,
    gate_up: Buffer<bf16>,
    product: Buffer<bf16>,
    /// Residual streams of wanted rows, some at a time, and their logits.
    gathered: Buffer<f32>,
    logits: Buffer<f32>,
}

impl Inference {
    /// [`Backend::pass`](cwm_engine::Backend::pass).
    pub(super) fn run(&self, parts: &[PassPart]) -> Result<Vec<f32>, Error> {
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let mut state = lock(&self.state);
        let State { rope, room } = &mut *state;
        let last = parts.iter().map(|part| part.start + part.ids.len() - 1);
        let last = last.max().unwrap_or(0) as u32;
        rope.reach(&self.gpu, &self.config, last)?;
        let uploaded = self.upload(parts)?;
        let (buffers, partial) = room.reserve(&self.gpu, &self.config, &uploaded)?;
        let (hidden, per_token) = (self.config.hidden_size, uploaded.sources_per_token);
        ops::gather_sum_rounded(
            &mut buffers.x,
            &self.weights,
            &uploaded.sources,
            per_token,
            uploaded.rows,
            hidden,
        )?;
        let [mut n_global, mut n_local] = [0, 0];
        for index in 0..self.config.n_layers {
            let (pages, n_before) = match group_of(self.config.layer_types[index]) {
                PageGroup::Global => (&uploaded.global, &mut n_global),
                PageGroup::Local => (&uploaded.local, &mut n_local),
            };
            let pages = pages.as_ref().expect("a group of layers has pages");
            self.attend(index, *n_before, pages, rope, buffers, partial)?;
            self.feed_forward(index, uploaded.rows, buffers)?;
            *n_before += 1;
        }
        self.head(&uploaded.wanted, buffers)
    }

    fn upload(&self, parts: &[PassPart]) -> Result<Uploaded, Error> {
        let gpu = &self.gpu;
        let mut sources = Vec::new();
        let mut sources_per_token = 0;
        let (mut wanted, mut rows) = (Vec::new(), 0);
        for part in parts {
            let lookups = lookups(&self.config, &self.layout, part)?;
            sources_per_token = lookups.per_token;
            let new = &lookups.starts[part.before.len() * lookups.per_token..];
            let source = |start: &Option<usize>| start.map_or(NO_SOURCE, |start| start as u32);
            sources.extend(new.iter().map(source));
            let starts = part
                .wanted
                .clone()
                .map(|at| (rows + at) * self.config.hidden_size);
            wanted.extend(starts.map(|start| start as u32));
            rows += part.ids.len();
        }
        let pages = |group, run: fn(&PassPart) -> &PageRun| -> Result<Option<PagedPass>, Error> {
            let mut kinds = self.config.layer_types.iter();
            if !kinds.any(|kind| group_of(*kind) == group) {
                return Ok(None);
            }
            let mut known = lock(&self.pages);
            let sequences: Vec<Sequence> = (parts.iter())
                .map(|part| {
                    known.check(group, &run(part).pages);
                    sequence(part, run(part))
                })
                .collect();
            drop(known);
            PagedPass::new(gpu, &sequences, self.config.attention_shape()).map(Some)
        };
        Ok(Uploaded {
            rows,
            sources: gpu.upload(&sources)?,
            sources_per_token,
            global: pages(PageGroup::Global, |part| &part.global)?,
            local: pages(PageGroup::Local, |part| &part.local)?,
            wanted,
        })
    }

    /// The first half of a layer, which is number `in_group` of its group.
    fn attend(
        &self,
        index: usize,
        in_group: usize,
        pages: &PagedPass,
        rope: &crate::network::Rope,
        buffers: &mut Buffers,
        partial: &mut Buffer<f32>,
    ) -> Result<(), Error> {
        let (tensors, shape, rows) = (
            self.tensors(index),
            self.config.attention_shape(),
            pages.rows(),
        );
        let hidden = self.config.hidden_size;
        self.normalise(2 * index, rows, buffers)?;
        let qkv = Target::Rounded(&mut buffers.qkv);
        ops::linear(
            qkv,
            &buffers.normed,
            &self.weights,
            tensors.qkv(),
            rows,
            hidden,
        )?;
        ops::rope(
            &mut buffers.qkv,
            ops::qkv_width(shape),
            shape.n_heads + shape.n_kv_heads,
            shape.head_dim,
            pages.positions(),
            &rope.cos,
            &rope.sin,
            rows,
            Direction::Forward,
        )?;
        let window = match self.config.layer_types[index] {
            LayerType::Full => None,
            LayerType::Sliding => Some(self.config.sliding_window),
        };
        let attended = &mut buffers.attended;
        // SAFETY: all pages were checked to be of this group, whose layers they have room for; the engine
        // has given each new token a page of its sequence's own, with all that it sees. Pages hold finite
        // numbers (`pages`).
        unsafe {
            ops::store_rows(pages, &buffers.qkv, in_group, shape)?;
            ops::paged_attention(
                attended,
                partial,
                &buffers.qkv,
                pages,
                in_group,
                window,
                shape,
            )?;
        }
        let x = Target::Add(&mut buffers.x);
        let (o, q_width) = (tensors.o.clone(), shape.q_width());
        ops::linear(x, &buffers.attended, &self.weights, o, rows, q_width)
    }

    /// The second half of a layer.
    fn feed_forward(&self, index: usize, rows: usize, buffers: &mut Buffers) -> Result<(), Error> {
        let (tensors, inner) = (self.tensors(index), self.config.intermediate_size);
        let hidden = self.config.hidden_size;
        self.normalise(2 * index + 1, rows, buffers)?;
        let gate_up = Target::Rounded(&mut buffers.gate_up);
        let of_both = tensors.gate_up();
        ops::linear(
            gate_up,
            &buffers.normed,
            &self.weights,
            of_both,
            rows,
            hidden,
        )?;
        ops::swiglu(&mut buffers.product, &buffers.gate_up, rows, inner)?;
        let x = Target::Add(&mut buffers.x);
        let down = tensors.down.clone();
        ops::linear(x, &buffers.product, &self.weights, down, rows, inner)
    }

    /// Logits of the rows whose residual streams begin at `wanted`.
    fn head(&self, wanted: &[u32], buffers: &mut Buffers) -> Result<Vec<f32>, Error> {
        let (hidden, vocab) = (self.config.hidden_size, self.config.vocab_size);
        let last = self.norm(2 * self.config.n_layers);
        let mut logits = vec![0.0; wanted.len() * vocab];
        let at_once = buffers.head_rows(&self.config);
        for (starts, out) in wanted
            .chunks(at_once)
            .zip(logits.chunks_mut(at_once * vocab))
        {
            let (rows, starts) = (starts.len(), self.gpu.upload(starts)?);
            let Buffers {
                x,
                normed,
                inverse,
                gathered,
                logits,
                ..
            } = buffers;
            ops::gather_sum(gathered, x, &starts, 1, rows, hidden)?;
            let eps = self.config.rms_norm_eps;
            ops::rms_norm(
                normed,
                inverse,
                gathered,
                &self.norms,
                last.clone(),
                rows,
                eps,
            )?;
            let head = self.layout.head();
            ops::linear(
                Target::Full(logits),
                normed,
                &self.weights,
                head,
                rows,
                hidden,
            )?;
            logits.read_into(out)?;
        }
        Ok(logits)
    }

    fn normalise(&self, norm: usize, rows: usize, buffers: &mut Buffers) -> Result<(), Error> {
        let (range, eps) = (self.norm(norm), self.config.rms_norm_eps);
        let Buffers {
            x, normed, inverse, ..
        } = buffers;
        ops::rms_norm(normed, inverse, x, &self.norms, range, rows, eps)
    }

    fn tensors(&self, index: usize) -> &LayerTensors {
        &self.layout.layers()[index]
    }
}

/// What makes up the embeddings of a part's tokens and of those before them.
fn lookups(config: &Config, layout: &Layout, part: &PassPart) -> Result<Lookups, Error> {
    let ids = [&part.before[..], &part.ids].concat();
    // Embeddings know the order of tokens, and no positions.
    let positions: Vec<u32> = (0..ids.len() as u32).collect();
    let row = Row {
        ids: &ids,
        positions: &positions,
        spans: &vec![Span::causal_from(0); ids.len()],
        targets: &[],
    };
    let lookups: Result<_, RowError> = Lookups::new(config, layout, &row);
    Ok(lookups.map_err(cwm_model::Error::from)?)
}

fn sequence(part: &PassPart, run: &PageRun) -> Sequence {
    Sequence {
        rows: part.ids.len(),
        start: part.start,
        first_page: run.first,
        pages: run.pages.iter().map(|page| page.0).collect(),
    }
}

impl Room {
    /// Room for a pass.
    fn reserve(
        &mut self,
        gpu: &Gpu,
        config: &Config,
        pass: &Uploaded,
    ) -> Result<(&mut Buffers, &mut Buffer<f32>), Error> {
        let shape = config.attention_shape();
        let groups = [&pass.global, &pass.local].into_iter().flatten();
        let partial = groups.map(|pages| pages.partial_len(shape)).max();
        let partial = partial.unwrap_or(0).max(1);
        // What is there is given back first, since both may not fit.
        self.buffers.take_if(|buffers| buffers.rows < pass.rows);
        self.partial.take_if(|buffer| buffer.len() < partial);
        if self.buffers.is_none() {
            let rows = pass.rows.next_power_of_two().max(64);
            self.buffers = Some(Buffers::new(gpu, config, rows)?);
        }
        if self.partial.is_none() {
            self.partial = Some(gpu.zeros(partial.next_power_of_two())?);
        }
        match (&mut self.buffers, &mut self.partial) {
            (Some(buffers), Some(partial)) => Ok((buffers, partial)),
            _ => unreachable!("both were just made"),
        }
    }
}

impl Buffers {
    fn new(gpu: &Gpu, config: &Config, rows: usize) -> Result<Self, Error> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let shape = config.attention_shape();
        let at_head = head_rows(config).min(rows);
        Ok(Self {
            rows,
            x: gpu.zeros(rows * hidden)?,
            normed: gpu.zeros(rows * hidden)?,
            inverse: gpu.zeros(rows)?,
            qkv: gpu.zeros(rows * ops::qkv_width(shape))?,
            attended: gpu.zeros(rows * shape.q_width())?,
            gate_up: gpu.zeros(rows * 2 * inner)?,
            product: gpu.zeros(rows * inner)?,
            gathered: gpu.zeros(at_head * hidden)?,
            logits: gpu.zeros(at_head * config.vocab_size)?,
        })
    }

    /// Rows that go through the head at once.
    fn head_rows(&self, config: &Config) -> usize {
        self.gathered.len() / config.hidden_size
    }
}
