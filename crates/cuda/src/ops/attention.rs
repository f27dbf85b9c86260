//! Attention and its gradients over a packed row (`kernels/attention.cu`).

use cwm_kernels::{AttentionShape, Span};
use half::bf16;

use crate::device::{Argument, Buffer, Gpu, Launch};
use crate::error::Error;
use crate::kernel::{Kernel, Source};
use crate::tiles::{TILE, TileList, Tiles};

/// The kernels of attention, for heads of a width.
pub(crate) static ATTENTION: Source = Source {
    name: "attention.cu",
    text: include_str!("../kernels/attention.cu"),
    kernels: &[
        "attention",
        "attention_delta",
        "attention_backward_queries",
        "attention_backward_keys",
    ],
    macros: &[("HEAD_DIM", &[16, 32, 64, 96, 128])],
};

/// Threads of a block.
const THREADS: u32 = 128;

/// Who sees whom in a row, in device memory.
#[derive(Debug)]
pub struct Visible {
    rows: usize,
    /// `[rows, 3]`: the fields of each [`Span`].
    spans: Buffer<u32>,
    by_queries: DeviceList,
    by_keys: DeviceList,
}

#[derive(Debug)]
struct DeviceList {
    first: Buffer<u32>,
    tiles: Buffer<u32>,
}

/// Log-sum-exps of scores, and a product that their gradients need: `[n_heads, rows]` each.
#[derive(Debug)]
pub struct RowSums {
    /// Written by [`attention`].
    pub lse: Buffer<f32>,
    /// Room for [`attention_backward`].
    pub delta: Buffer<f32>,
}

impl Visible {
    /// Of a row with these spans, which must be well formed, and the tiles that follow from them.
    ///
    /// # Errors
    /// When device memory is full or the device is lost.
    pub fn new(gpu: &Gpu, spans: &[Span], tiles: &Tiles) -> Result<Self, Error> {
        let fields = |span: &Span| [span.prefix_start, span.prefix_end, span.start];
        let numbers: Vec<u32> = spans.iter().flat_map(fields).collect();
        let list = |list: &TileList| -> Result<DeviceList, Error> {
            Ok(DeviceList {
                first: gpu.upload(&list.first)?,
                tiles: gpu.upload(&list.tiles)?,
            })
        };
        Ok(Self {
            rows: spans.len(),
            spans: gpu.upload(&numbers)?,
            by_queries: list(&tiles.by_queries)?,
            by_keys: list(&tiles.by_keys)?,
        })
    }

    /// Rows of the row.
    pub fn rows(&self) -> usize {
        self.rows
    }

    fn n_tiles(&self) -> u32 {
        self.rows.div_ceil(TILE) as u32
    }
}

/// Whether there are kernels for heads of this shape.
///
/// # Errors
/// [`Error::Shape`], saying what is possible.
pub fn check_shape(shape: AttentionShape) -> Result<(), Error> {
    let is_possible = shape.head_dim.is_multiple_of(16) && (16..=128).contains(&shape.head_dim);
    match is_possible {
        true => Ok(()),
        false => Err(Error::Shape {
            what: "head_dim",
            found: shape.head_dim,
            wanted: "a multiple of 16 of at most 128",
        }),
    }
}

/// Numbers in a row of queries, keys and values.
pub fn qkv_width(shape: AttentionShape) -> usize {
    shape.q_width() + 2 * shape.kv_width()
}

/// `out[rows, q_width]` and `sums.lse` of [`cwm_kernels::attention`], from rows of queries, keys and values
/// side by side, `qkv[rows, `[`qkv_width`]`]`.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Panics
/// When a buffer is too short or the shape has no kernel.
pub fn attention(
    out: &mut Buffer<bf16>,
    sums: &mut RowSums,
    qkv: &Buffer<bf16>,
    visible: &Visible,
    shape: AttentionShape,
) -> Result<(), Error> {
    check(visible, shape, qkv.len(), out.len(), sums);
    let launch = Launch {
        grid: [visible.n_tiles(), shape.n_heads as u32, 1],
        threads: THREADS,
        shared_bytes: tile_bytes(shape) * 5,
    };
    let list = &visible.by_queries;
    let arguments = [
        Argument::Pointer(out.address()),
        Argument::Pointer(sums.lse.address()),
        Argument::Pointer(qkv.address()),
        Argument::Pointer(visible.spans.address()),
        Argument::Pointer(list.first.address()),
        Argument::Pointer(list.tiles.address()),
        Argument::U32(visible.rows as u32),
        Argument::U32(shape.n_heads as u32),
        Argument::U32(shape.n_kv_heads as u32),
        Argument::F32(shape.scale()),
    ];
    // SAFETY: the arguments are those of the kernel; it reads and writes whole rows of the buffers, whose
    // lengths were checked, and tiles of a list that was made for so many rows.
    unsafe { launch_on(out.gpu(), "attention", shape, launch, &arguments) }
}

/// `d_qkv` (overwritten) from the gradient of what [`attention`] put out.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Panics
/// When a buffer is too short or the shape has no kernel.
pub fn attention_backward(
    d_qkv: &mut Buffer<bf16>,
    d_out: &Buffer<bf16>,
    out: &Buffer<bf16>,
    sums: &mut RowSums,
    qkv: &Buffer<bf16>,
    visible: &Visible,
    shape: AttentionShape,
) -> Result<(), Error> {
    check(
        visible,
        shape,
        qkv.len().min(d_qkv.len()),
        out.len().min(d_out.len()),
        sums,
    );
    let gpu = out.gpu().clone();
    let rows = visible.rows as u32;
    let delta = Launch {
        grid: [rows, (shape.n_heads as u32).div_ceil(THREADS / 32), 1],
        threads: THREADS,
        shared_bytes: 0,
    };
    let arguments = [
        Argument::Pointer(sums.delta.address()),
        Argument::Pointer(d_out.address()),
        Argument::Pointer(out.address()),
        Argument::U32(rows),
        Argument::U32(shape.n_heads as u32),
    ];
    // SAFETY: the arguments are those of the kernel, which reads and writes whole rows of the buffers, whose
    // lengths were checked.
    unsafe { launch_on(&gpu, "attention_delta", shape, delta, &arguments)? };
    let tiles = tile_bytes(shape) * 6;
    let of_rows = 2 * 5 * TILE as u32 * size_of::<f32>() as u32;
    for (kernel, list, heads, shared_bytes) in [
        (
            "attention_backward_queries",
            &visible.by_queries,
            shape.n_heads,
            tiles,
        ),
        (
            "attention_backward_keys",
            &visible.by_keys,
            shape.n_kv_heads,
            tiles + of_rows,
        ),
    ] {
        let launch = Launch {
            grid: [visible.n_tiles(), heads as u32, 1],
            threads: THREADS,
            shared_bytes,
        };
        let arguments = [
            Argument::Pointer(d_qkv.address()),
            Argument::Pointer(d_out.address()),
            Argument::Pointer(sums.lse.address()),
            Argument::Pointer(sums.delta.address()),
            Argument::Pointer(qkv.address()),
            Argument::Pointer(visible.spans.address()),
            Argument::Pointer(list.first.address()),
            Argument::Pointer(list.tiles.address()),
            Argument::U32(rows),
            Argument::U32(shape.n_heads as u32),
            Argument::U32(shape.n_kv_heads as u32),
            Argument::F32(shape.scale()),
        ];
        // SAFETY: as for `attention`.
        unsafe { launch_on(&gpu, kernel, shape, launch, &arguments)? };
    }
    Ok(())
}

/// # Safety
/// As [`Device::launch`](crate::Device::launch).
unsafe fn launch_on(
    gpu: &Gpu,
    name: &'static str,
    shape: AttentionShape,
    launch: Launch,
    arguments: &[Argument],
) -> Result<(), Error> {
    let kernel = Kernel {
        source: &ATTENTION,
        name,
        macros: vec![shape.head_dim as u32],
    };
    // SAFETY: the caller's.
    unsafe { gpu.device().launch(&kernel, launch, arguments) }
}

/// Bytes of a tile in shared memory.
fn tile_bytes(shape: AttentionShape) -> u32 {
    (TILE * (shape.head_dim + 8) * size_of::<bf16>()) as u32
}

fn check(visible: &Visible, shape: AttentionShape, qkv: usize, out: usize, sums: &RowSums) {
    let rows = visible.rows;
    assert!(check_shape(shape).is_ok(), "no kernel for {shape:?}");
    let is_enough = qkv >= rows * qkv_width(shape)
        && out >= rows * shape.q_width()
        && sums.lse.len().min(sums.delta.len()) >= rows * shape.n_heads;
    assert!(
        is_enough,
        "attention: a buffer is too short for {rows} rows of {shape:?}"
    );
}
