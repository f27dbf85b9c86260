//! Reusable, cache-line-aligned f32 buffers: the crate's answer to "allocate nothing per call".

use std::fmt;

use crate::Precision;
use crate::attention::Visible;

/// One cache line, so that a `Vec` of them is aligned for any vector load.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Elements per cache line.
const LINE: usize = 16;

/// A buffer that only ever grows. Contents are unspecified between uses.
#[derive(Default)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    /// A slice of exactly `len` elements, aligned to 64 bytes, with unspecified contents.
    pub(crate) fn get(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(LINE);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0.0; LINE]));
        }
        // SAFETY: `Line` is `repr(C)` over `[f32; LINE]` without padding (64 bytes of elements,
        // alignment 64), so `lines` lines are `lines * LINE >= len` initialised floats, and the
        // borrow of `self` keeps them alive and exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} f32)", self.lines.len() * LINE)
    }
}

/// Working memory of the attention functions. Keep one per thread and pass it to every call: it
/// grows to the largest size asked of it and is then reused. What it holds between calls means
/// nothing. It also says what precision their products may run in; the default is f32.
#[derive(Default, Debug)]
pub struct Scratch {
    pub(crate) precision: Precision,
    /// Packed keys of one head, across (`[head_dim, T]`) and down (`[T, head_dim]`).
    pub(crate) keys: (Buffer, Buffer),
    /// Packed values of one head.
    pub(crate) values: Buffer,
    /// Packed queries and output gradients of one block.
    pub(crate) block_rows: (Buffer, Buffer),
    /// Scores of one block, then their exponentials or probabilities.
    pub(crate) scores: Buffer,
    /// Gradients of the above.
    pub(crate) score_gradients: Buffer,
    /// The keys that one block sees.
    pub(crate) visible: Visible,
}

impl Scratch {
    /// Empty working memory of attention whose products run in `precision`.
    #[must_use]
    pub fn new(precision: Precision) -> Self {
        Self {
            precision,
            ..Self::default()
        }
    }

    /// What products may run in.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }
}
