//! Sums of rows that lie anywhere: the embedding lookup and its gradient.

use half::bf16;

use super::launch::{
    NUMBERS, blocks, count, numbers, pointer, pointer_at, row_threads, run, same_device,
};
use crate::device::{Argument, Buffer, Element, Gpu};
use crate::error::Error;
use crate::kernel::Source;

/// `rows.cu`.
pub(crate) static ROWS: Source = Source {
    name: "rows.cu",
    text: include_str!("../kernels/rows.cu"),
    kernels: &[
        "gather_sum",
        "gather_sum_rounded",
        "sum_chunks",
        "add_chunks",
    ],
    macros: &[NUMBERS],
};

/// A source of [`gather_sum`] that is none.
pub const NO_SOURCE: u32 = u32::MAX;

/// Most threads of a block that has a row.
const ROW_THREADS: u32 = 256;
/// Most rows that one block adds, so that a destination that most rows have is spread over many blocks.
const CHUNK: usize = 64;

/// Each row of `out` `[rows, width]` becomes the sum of `table[source..source + width]` over its `sources`
/// `[rows, n_sources]`, in their order; [`NO_SOURCE`] adds nothing, and what reaches beyond the table gives
/// NaN.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Panics
/// If lengths disagree.
pub fn gather_sum(
    out: &mut Buffer<f32>,
    table: &Buffer<f32>,
    sources: &Buffer<u32>,
    n_sources: usize,
    rows: usize,
    width: usize,
) -> Result<(), Error> {
    gather(out, table, "gather_sum", sources, n_sources, [rows, width])
}

/// [`gather_sum`] of a table in bf16.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Panics
/// If lengths disagree.
pub fn gather_sum_rounded(
    out: &mut Buffer<f32>,
    table: &Buffer<bf16>,
    sources: &Buffer<u32>,
    n_sources: usize,
    rows: usize,
    width: usize,
) -> Result<(), Error> {
    let kernel = "gather_sum_rounded";
    gather(out, table, kernel, sources, n_sources, [rows, width])
}

fn gather<T: Element>(
    out: &mut Buffer<f32>,
    table: &Buffer<T>,
    kernel: &'static str,
    sources: &Buffer<u32>,
    n_sources: usize,
    [rows, width]: [usize; 2],
) -> Result<(), Error> {
    assert!(
        width > 0 && out.len() >= rows * width && sources.len() >= rows * n_sources,
        "gather_sum shapes disagree: out {}, sources {} for {rows} rows of {width} from {n_sources} each",
        out.len(),
        sources.len()
    );
    same_device("gather_sum", &[out.gpu(), table.gpu(), sources.gpu()]);
    let numbers = numbers(&[width]);
    let arguments = [
        pointer(out),
        pointer(table),
        pointer(sources),
        count(n_sources),
        count(width),
        // Sources have 32 bits: what lies behind cannot be named.
        Argument::U32(u32::try_from(table.len()).unwrap_or(u32::MAX)),
    ];
    let launch = blocks(rows, row_threads(width, numbers, ROW_THREADS));
    // SAFETY: the arguments are the declaration's; a block has one of `rows` rows, which were checked to be
    // in `out` and `sources`, and the kernel compares sources with the table's length.
    unsafe { run(out.gpu(), (&ROWS, kernel), &[numbers], launch, &arguments) }
}

/// Which rows are added to which places, worked out on the host, on any thread.
#[derive(Clone, Debug)]
pub struct SegmentLists {
    /// The lists of [`Layout`], one behind the other.
    lists: Vec<u32>,
    layout: Layout,
}

/// The same in device memory, for [`segment_sum`].
#[derive(Debug)]
pub struct Segments {
    lists: Buffer<u32>,
    layout: Layout,
}

/// Where the lists begin, and what is known of them.
#[derive(Clone, Debug)]
struct Layout {
    /// Source rows begin the lists, in the order of their destinations; of each chunk, its first source
    /// row, and behind the last chunk their number.
    chunk_starts: usize,
    /// Offsets of destinations, ascending.
    destinations: usize,
    /// Of each destination, its first chunk, and behind the last destination their number.
    first_chunks: usize,
    n_chunks: usize,
    n_destinations: usize,
    /// One past the last source row.
    source_rows: usize,
    /// The last destination, and the least distance between two.
    last: usize,
    closest: usize,
}

impl SegmentLists {
    /// From pairs of a destination, as the offset of its first number, and a row of the source. Rows of one
    /// destination are added in the order in which they come.
    pub fn new(destinations: impl Iterator<Item = (u32, u32)>) -> Self {
        let (lists, layout) = lists(destinations);
        Self { lists, layout }
    }
}

impl Segments {
    /// Copies lists to a device.
    ///
    /// # Errors
    /// As [`Device::allocate`](crate::Device::allocate).
    pub fn new(gpu: &Gpu, lists: &SegmentLists) -> Result<Self, Error> {
        Ok(Self {
            lists: gpu.upload(&lists.lists)?,
            layout: lists.layout.clone(),
        })
    }

    /// Numbers that [`segment_sum`] wants in `partial` for rows of this width.
    pub fn partial_len(&self, width: usize) -> usize {
        self.layout.n_chunks * width
    }
}

fn lists(destinations: impl Iterator<Item = (u32, u32)>) -> (Vec<u32>, Layout) {
    let mut pairs: Vec<(u32, u32)> = destinations.collect();
    // Stable: the order of the rows of one destination is that in which they came.
    pairs.sort_by_key(|&(destination, _)| destination);
    let (mut chunk_starts, mut offsets, mut first_chunks) = (Vec::new(), Vec::new(), Vec::new());
    let mut start = 0;
    for segment in pairs.chunk_by(|a, b| a.0 == b.0) {
        offsets.push(segment[0].0);
        first_chunks.push(chunk_starts.len() as u32);
        chunk_starts.extend(
            (start..start + segment.len())
                .step_by(CHUNK)
                .map(|at| at as u32),
        );
        start += segment.len();
    }
    let (n_chunks, n_destinations) = (chunk_starts.len(), offsets.len());
    chunk_starts.push(start as u32);
    first_chunks.push(n_chunks as u32);

    let gaps = offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize);
    let layout = Layout {
        chunk_starts: pairs.len(),
        destinations: pairs.len() + chunk_starts.len(),
        first_chunks: pairs.len() + chunk_starts.len() + n_destinations,
        n_chunks,
        n_destinations,
        source_rows: pairs
            .iter()
            .map(|&(_, row)| row as usize + 1)
            .max()
            .unwrap_or(0),
        last: offsets.last().map_or(0, |&offset| offset as usize),
        closest: gaps.min().unwrap_or(usize::MAX),
    };
    let rows = pairs.iter().map(|&(_, row)| row);
    let lists = rows.chain(chunk_starts).chain(offsets).chain(first_chunks);
    (lists.collect(), layout)
}

/// Adds rows of `source` `[rows, width]` to the places in `destination` that `segments` names: those of one
/// place in chunks, then the chunks in order.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Panics
/// If a row or a place is outside its buffer, places overlap, or `partial` is too small.
pub fn segment_sum(
    destination: &mut Buffer<f32>,
    source: &Buffer<f32>,
    segments: &Segments,
    width: usize,
    partial: &mut Buffer<f32>,
) -> Result<(), Error> {
    let Segments { lists, layout } = segments;
    assert!(
        width > 0
            && layout.source_rows * width <= source.len()
            && (layout.n_destinations == 0 || layout.last + width <= destination.len())
            && width <= layout.closest
            && segments.partial_len(width) <= partial.len(),
        "segment_sum shapes disagree: {} rows of {width} from {}, the last to {} of {}, partial {} of {}; \
         places are {} apart",
        layout.source_rows,
        source.len(),
        layout.last,
        destination.len(),
        partial.len(),
        segments.partial_len(width),
        layout.closest
    );
    let devices = [destination.gpu(), source.gpu(), lists.gpu(), partial.gpu()];
    same_device("segment_sum", &devices);
    let numbers = numbers(&[width]);
    let threads = row_threads(width, numbers, ROW_THREADS);
    let arguments = [
        pointer(partial),
        pointer(source),
        pointer(lists),
        pointer_at(lists, layout.chunk_starts),
        count(width),
    ];
    // SAFETY: the arguments are the declaration's; the lists name rows below `source_rows`, which were
    // checked to be in `source`, and `partial` has a row for each chunk.
    unsafe {
        run(
            destination.gpu(),
            (&ROWS, "sum_chunks"),
            &[numbers],
            blocks(layout.n_chunks, threads),
            &arguments,
        )?;
    }
    let arguments = [
        pointer(destination),
        pointer(partial),
        pointer_at(lists, layout.destinations),
        pointer_at(lists, layout.first_chunks),
        count(width),
    ];
    // SAFETY: the arguments are the declaration's; the last place was checked to be in `destination`, none
    // overlaps another's block, and every chunk listed was written above.
    unsafe {
        run(
            destination.gpu(),
            (&ROWS, "add_chunks"),
            &[numbers],
            blocks(layout.n_destinations, threads),
            &arguments,
        )
    }
}
