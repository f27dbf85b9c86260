//! Attention over keys and values in pages, and writing them there (`kernels/paged.cu`).

use cwm_kernels::AttentionShape;
use half::bf16;

use super::launch::{count, narrow, pointer, run, same_device};
use super::{check_shape, qkv_width};
use crate::device::{Address, Argument, Buffer, Gpu, Launch};
use crate::error::Error;
use crate::kernel::Source;

/// `paged.cu`.
pub(crate) static PAGED: Source = Source {
    name: "paged.cu",
    text: include_str!("../kernels/paged.cu"),
    kernels: &["store_rows", "paged_attention", "add_chunks_of_keys"],
    macros: &[("HEAD_DIM", &[16, 32, 64, 96, 128])],
};

/// Positions in a page.
pub const PAGE: usize = 64;

/// Threads of a block of attention.
const THREADS: u32 = 128;
/// Packed rows of a block: rows of a sequence times the query heads that share a key head.
const TILE: usize = 16;
/// Keys of a block.
const CHUNK: usize = 1024;
/// Keys of a warp at a time, and warps of a block.
const SHARE: usize = 32;
const WARPS: usize = 4;

/// Numbers in a page of `n_layers` layers: for each the keys of all heads, then the values,
/// `[n_kv_heads, PAGE, head_dim]` each.
pub fn page_len(shape: AttentionShape, n_layers: usize) -> usize {
    n_layers * 2 * PAGE * shape.kv_width()
}

/// New tokens of one sequence, with its pages of one group of layers.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// How many.
    pub rows: usize,
    /// Position of the first.
    pub start: usize,
    /// Number of the first page.
    pub first_page: usize,
    /// Where each page begins: all that the tokens see, to the page of the last token.
    pub pages: Vec<Address>,
}

/// The sequences of a pass, one after another, with their pages of one group of layers, in device memory.
#[derive(Debug)]
pub struct PagedPass {
    rows: usize,
    n_tiles: usize,
    n_chunks: usize,
    pages: Buffer<u64>,
    sequences: Buffer<u32>,
    tiles: Buffer<u32>,
    /// The page of each row.
    targets: Buffer<u64>,
    positions: Buffer<u32>,
}

impl PagedPass {
    /// Copies what a pass needs to know to the device. Local layers are the better for knowing only the
    /// pages that are seen.
    ///
    /// # Errors
    /// When device memory is full or the device is lost.
    ///
    /// # Panics
    /// If a sequence has no rows, or lacks the page of one.
    pub fn new(gpu: &Gpu, sequences: &[Sequence], shape: AttentionShape) -> Result<Self, Error> {
        let group = shape.n_heads / shape.n_kv_heads;
        let (mut pages, mut numbers, mut tiles) = (Vec::new(), Vec::new(), Vec::new());
        let (mut targets, mut positions) = (Vec::new(), Vec::new());
        let mut end = 0;
        for (index, sequence) in sequences.iter().enumerate() {
            assert!(sequence.rows > 0, "a sequence without new tokens");
            // Where page 0 would be: sums in the kernel wrap as this difference does.
            let page_zero = narrow(pages.len()).wrapping_sub(narrow(sequence.first_page));
            let (first, start) = (narrow(positions.len()), narrow(sequence.start));
            numbers.extend([first, narrow(sequence.rows), start, page_zero]);
            let packed = (0..sequence.rows * group).step_by(TILE);
            tiles.extend(packed.flat_map(|packed| [narrow(index), narrow(packed)]));
            for position in sequence.start..sequence.start + sequence.rows {
                targets.push(sequence.pages[position / PAGE - sequence.first_page]);
                positions.push(narrow(position));
            }
            pages.extend_from_slice(&sequence.pages);
            end = end.max(sequence.start + sequence.rows);
        }
        Ok(Self {
            rows: positions.len(),
            n_tiles: tiles.len() / 2,
            n_chunks: end.div_ceil(CHUNK),
            pages: gpu.upload(&pages)?,
            sequences: gpu.upload(&numbers)?,
            tiles: gpu.upload(&tiles)?,
            targets: gpu.upload(&targets)?,
            positions: gpu.upload(&positions)?,
        })
    }

    /// New tokens.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Positions of the rows.
    pub fn positions(&self) -> &Buffer<u32> {
        &self.positions
    }

    /// Numbers that [`paged_attention`] wants in `partial`.
    pub fn partial_len(&self, shape: AttentionShape) -> usize {
        match self.n_chunks {
            0 | 1 => 0,
            n => n * self.rows * shape.n_heads * (shape.head_dim + 2),
        }
    }
}

/// Writes the keys and values of rows `qkv[rows, `[`qkv_width`]`]` into their pages.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Panics
/// If lengths disagree.
///
/// # Safety
/// All pages of the pass are [`page_len`] numbers within allocations, with at least `layer + 1` layers, and
/// no two rows of different sequences have the same.
pub unsafe fn store_rows(
    pass: &PagedPass,
    qkv: &Buffer<bf16>,
    layer: usize,
    shape: AttentionShape,
) -> Result<(), Error> {
    check(pass, qkv, shape);
    let numbers = 2 * shape.kv_width() / 8;
    let launch = Launch {
        grid: [narrow(pass.rows), 1, 1],
        threads: narrow(numbers.next_multiple_of(32).min(256)),
        shared_bytes: 0,
    };
    let arguments = [
        pointer(&pass.targets),
        pointer(&pass.positions),
        pointer(qkv),
        count(layer),
        count(shape.n_heads),
        count(shape.n_kv_heads),
    ];
    let macros = [narrow(shape.head_dim)];
    // SAFETY: the arguments are the declaration's; rows were checked to be there, and the caller answers
    // for the pages.
    unsafe {
        let kernel = (&PAGED, "store_rows");
        run(qkv.gpu(), kernel, &macros, launch, &arguments)
    }
}

/// `out[rows, q_width]`: what each row of `qkv` sees of the pages of its sequence, with `window` positions
/// at most, itself included. `partial` is room for sums of long sequences ([`PagedPass::partial_len`]).
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Panics
/// If lengths disagree or a window is 0.
///
/// # Safety
/// As [`store_rows`]; what the rows see was written, and all numbers of the pages are finite.
pub unsafe fn paged_attention(
    out: &mut Buffer<bf16>,
    partial: &mut Buffer<f32>,
    qkv: &Buffer<bf16>,
    pass: &PagedPass,
    layer: usize,
    window: Option<usize>,
    shape: AttentionShape,
) -> Result<(), Error> {
    check(pass, qkv, shape);
    assert!(
        out.len() >= pass.rows * shape.q_width()
            && partial.len() >= pass.partial_len(shape)
            && window != Some(0),
        "paged attention: {} rows do not fit in {}, with {} of {} numbers of room, window {window:?}",
        pass.rows,
        out.len(),
        partial.len(),
        pass.partial_len(shape)
    );
    same_device("paged attention", &[out.gpu(), qkv.gpu(), partial.gpu()]);
    let launch = Launch {
        grid: [
            narrow(pass.n_tiles),
            narrow(shape.n_kv_heads),
            narrow(pass.n_chunks),
        ],
        threads: THREADS,
        shared_bytes: narrow((TILE + WARPS * 2 * SHARE) * (shape.head_dim + 8) * 2),
    };
    let arguments = [
        pointer(out),
        pointer(partial),
        pointer(qkv),
        pointer(&pass.pages),
        pointer(&pass.sequences),
        pointer(&pass.tiles),
        count(layer),
        // A window that no position reaches is none.
        Argument::U32(window.map_or(0, |window| u32::try_from(window).unwrap_or(0))),
        count(pass.rows),
        count(shape.n_heads),
        count(shape.n_kv_heads),
        Argument::F32(shape.scale()),
    ];
    let macros = [narrow(shape.head_dim)];
    // SAFETY: the arguments are the declaration's; lists were made for these rows, which were checked to be
    // there, as was the room, and the caller answers for the pages.
    unsafe {
        let kernel = (&PAGED, "paged_attention");
        run(qkv.gpu(), kernel, &macros, launch, &arguments)?;
    }
    if pass.n_chunks < 2 {
        return Ok(());
    }
    let places = pass.rows * shape.n_heads;
    let launch = Launch {
        grid: [narrow(places), 1, 1],
        threads: narrow(shape.head_dim.next_multiple_of(32)),
        shared_bytes: 0,
    };
    let arguments = [
        pointer(out),
        pointer(partial),
        count(places),
        count(pass.n_chunks),
    ];
    // SAFETY: the arguments are the declaration's; every block of the launch above has written its part.
    unsafe {
        let kernel = (&PAGED, "add_chunks_of_keys");
        run(qkv.gpu(), kernel, &macros, launch, &arguments)
    }
}

fn check(pass: &PagedPass, qkv: &Buffer<bf16>, shape: AttentionShape) {
    assert!(check_shape(shape).is_ok(), "no kernel for {shape:?}");
    assert!(
        qkv.len() >= pass.rows * qkv_width(shape),
        "pages: {} rows of {shape:?} are not in {}",
        pass.rows,
        qkv.len()
    );
    same_device("pages", &[qkv.gpu(), pass.pages.gpu()]);
}
