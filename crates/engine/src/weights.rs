//! The model's weights, packed for decoding.
//!
//! Matrices that read the same input are multiplied as one (query, key and value; gate and up), so
//! that a token costs four products per layer. They are packed row by row from wherever they lie:
//! no copy of a whole model in f32 is made on the way.

use std::cell::RefCell;
use std::ops::Range;

use cwm_kernels::{Linear, Pool, WeightFormat};
use cwm_model::{Checkpoint, Config, LayerTensors, Layout, Model, RunEmbedding, Tensor};

use crate::error::{Error, Result};

/// Where weights come from: any range of a model's parameters in the order of its [`Layout`].
pub(crate) trait Source {
    /// Writes the parameters from `offset` on, which lie in one row of one tensor.
    fn read(&self, offset: usize, out: &mut [f32]) -> Result<()>;
}

/// A model in memory.
impl Source for Model {
    fn read(&self, offset: usize, out: &mut [f32]) -> Result<()> {
        out.copy_from_slice(&self.params[offset..offset + out.len()]);
        Ok(())
    }
}

/// A model on disk, with the tensor that was read last: some formats put a tensor together from
/// parts whenever it is asked for.
pub(crate) struct OnDisk<'a> {
    checkpoint: &'a Checkpoint,
    last: RefCell<Option<(usize, Tensor<'a>)>>,
}

impl<'a> OnDisk<'a> {
    pub(crate) fn new(checkpoint: &'a Checkpoint) -> Self {
        Self {
            checkpoint,
            last: RefCell::new(None),
        }
    }
}

impl Source for OnDisk<'_> {
    fn read(&self, offset: usize, out: &mut [f32]) -> Result<()> {
        let refuse = |problem: String| Err(Error::Model { problem });
        let specs = self.checkpoint.layout().tensors();
        let index = specs.partition_point(|spec| spec.offset <= offset) - 1;
        let spec = &specs[index];
        let row = (offset - spec.offset) / spec.n_cols();
        let mut last = self.last.borrow_mut();
        let read = match &*last {
            Some((known, tensor)) if *known == index => tensor.rows(row..row + 1, out),
            _ => self.checkpoint.tensor(&spec.name).and_then(|tensor| {
                let (_, tensor) = last.insert((index, tensor));
                tensor.rows(row..row + 1, out)
            }),
        };
        if let Err(error) = read {
            return refuse(error.to_string());
        }
        match out.iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(column) => refuse(format!(
                "`{}` holds {} at row {row}, column {column}",
                spec.name, out[column]
            )),
        }
    }
}

/// Weights of a seed, for measurements: their speed is that of real ones.
pub(crate) struct Noise {
    pub(crate) seed: u64,
}

impl Source for Noise {
    fn read(&self, offset: usize, out: &mut [f32]) -> Result<()> {
        let mut state = self.seed ^ (offset as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for x in out {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *x = ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 0.035;
        }
        Ok(())
    }
}

/// The weights of one layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    /// Query, key and value projections: `[(n_heads + 2 n_kv_heads) * head_dim, hidden]`.
    pub(crate) qkv: Linear,
    /// `[hidden, n_heads * head_dim]`.
    pub(crate) output: Linear,
    pub(crate) mlp_norm: Vec<f32>,
    /// Gate and up projections: `[2 * intermediate, hidden]`.
    pub(crate) gate_up: Linear,
    /// `[hidden, intermediate]`.
    pub(crate) down: Linear,
}

/// All weights.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// `[vocab, hidden]`, looked up by token; `None` where the head is the same matrix.
    embedding: Option<Linear>,
    /// `[vocab, hidden]` each, looked up by the tokens before, nearest first.
    pub(crate) previous: Vec<Vec<f32>>,
    /// `[n_places, hidden]`, looked up by the place of a token in its run.
    pub(crate) run: Option<(RunEmbedding, Vec<f32>)>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) final_norm: Vec<f32>,
    /// `[vocab, hidden]`.
    pub(crate) head: Linear,
}

impl Decoder {
    /// Packs the parameters that `source` has for a model of this config.
    pub(crate) fn pack(
        config: &Config,
        source: &impl Source,
        format: WeightFormat,
        pool: &Pool,
    ) -> Result<Self> {
        Self::new(config, source, format, |range, k, format| {
            pack(source, range, k, format, pool)
        })
    }

    /// The weights of a model of this config: `matrix` is asked for the matrix of rows of `k` whose
    /// parameters lie at a range, in the order of [`Decoder::matrices`]; `source` has the rest.
    pub(crate) fn new<E: From<Error>>(
        config: &Config,
        source: &impl Source,
        format: WeightFormat,
        mut matrix: impl FnMut(&Range<usize>, usize, WeightFormat) -> Result<Linear, E>,
    ) -> Result<Self, E> {
        let layout = Layout::new(config);
        let hidden = config.hidden_size;
        let floats = |range: &Range<usize>| floats(source, range, hidden);
        let tables = table_format(format);
        let embedding = (!config.tie_word_embeddings)
            .then(|| matrix(&layout.embedding(), hidden, tables))
            .transpose()?;
        let layer = |at: &LayerTensors| -> Result<Layer, E> {
            Ok(Layer {
                attention_norm: floats(&at.attention_norm)?,
                qkv: matrix(&at.qkv(), hidden, format)?,
                output: matrix(&at.o, config.query_width(), format)?,
                mlp_norm: floats(&at.mlp_norm)?,
                gate_up: matrix(&at.gate_up(), hidden, format)?,
                down: matrix(&at.down, config.intermediate_size, format)?,
            })
        };
        let layers = layout
            .layers()
            .iter()
            .map(layer)
            .collect::<Result<_, E>>()?;
        let run = match (&config.run_embedding, layout.run_embedding()) {
            (Some(runs), Some(range)) => Some((runs.clone(), floats(&range)?)),
            _ => None,
        };
        let previous = layout.previous_embeddings().iter();
        Ok(Self {
            embedding,
            previous: previous.map(floats).collect::<Result<_>>()?,
            run,
            layers,
            final_norm: floats(&layout.final_norm())?,
            head: matrix(&layout.head(), hidden, tables)?,
        })
    }

    /// All matrices, in the order in which they were asked for.
    pub(crate) fn matrices(&self) -> impl Iterator<Item = &Linear> + Clone {
        let layers = (self.layers.iter()).flat_map(|l| [&l.qkv, &l.output, &l.gate_up, &l.down]);
        self.embedding.iter().chain(layers).chain([&self.head])
    }

    /// Writes the embedding of a token.
    pub(crate) fn embed(&self, id: u32, out: &mut [f32]) {
        let table = self.embedding.as_ref().unwrap_or(&self.head);
        table.row(id as usize, out);
    }

    /// Bytes read for one decoded token, apart from the cache.
    pub(crate) fn bytes_per_token(&self) -> usize {
        let layer = |l: &Layer| {
            l.qkv.n_bytes() + l.output.n_bytes() + l.gate_up.n_bytes() + l.down.n_bytes()
        };
        self.layers.iter().map(layer).sum::<usize>() + self.head.n_bytes()
    }

    /// Bytes of all weights.
    pub(crate) fn n_bytes(&self) -> usize {
        let embedding = self.embedding.as_ref().map_or(0, Linear::n_bytes);
        let previous: usize = self
            .previous
            .iter()
            .map(|table| size_of_val(&table[..]))
            .sum();
        let run = self
            .run
            .as_ref()
            .map_or(0, |(_, table)| size_of_val(&table[..]));
        self.bytes_per_token() + embedding + previous + run
    }
}

/// Embeddings and head are held in 8 bits where the rest has 4: they are what suffers most, and
/// least of what is read.
fn table_format(format: WeightFormat) -> WeightFormat {
    match format {
        WeightFormat::Int4Group32 | WeightFormat::Int4Group128 => WeightFormat::Int8,
        other => other,
    }
}

/// A model's fields are public: refuses one that was put together from parts that do not fit.
pub(crate) fn check(model: &Model) -> Result<()> {
    let refuse = |problem: String| Err(Error::Model { problem });
    if let Err(error) = model.config.validate() {
        return refuse(error.to_string());
    }
    if *model.layout != Layout::new(&model.config) {
        return refuse("its layout was made for another configuration".to_owned());
    }
    let (n_params, total) = (model.params.len(), model.layout.total());
    if n_params != total {
        return refuse(format!(
            "it has {n_params} parameters, its layout asks for {total}"
        ));
    }
    Ok(())
}

/// Rows of `k` at `range`, as they are.
fn floats(source: &impl Source, range: &Range<usize>, k: usize) -> Result<Vec<f32>> {
    let mut all = vec![0.0; range.len()];
    for (row, out) in all.chunks_exact_mut(k).enumerate() {
        source.read(range.start + row * k, out)?;
    }
    Ok(all)
}

/// The matrix of rows of `k` that lies at `range`.
fn pack(
    source: &impl Source,
    range: &Range<usize>,
    k: usize,
    format: WeightFormat,
    pool: &Pool,
) -> Result<Linear> {
    let mut read = Ok(());
    let packed = Linear::pack(format, range.len() / k, k, pool, |row, out| {
        if read.is_ok() {
            read = source.read(range.start + row * k, out);
        }
    });
    read.map(|()| packed)
}
