//! Matrix views: how callers describe the operands of [`gemm`](crate::gemm) without copying.
//!
//! A view is a slice plus a shape plus strides. Constructors check that every element the view
//! can name lies inside its slice, so that the kernels need no further bounds checks.

/// A read-only strided matrix view: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a> {
    /// The elements, in any layout the strides can describe.
    pub data: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Distance in elements between vertically adjacent elements.
    pub row_stride: usize,
    /// Distance in elements between horizontally adjacent elements.
    pub col_stride: usize,
}

impl<'a> MatRef<'a> {
    /// A contiguous row-major matrix.
    ///
    /// # Panics
    /// If `data` is shorter than `rows * cols`.
    #[must_use]
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::with_stride(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows start `row_stride` elements apart, such as one attention
    /// head inside the concatenation of all heads.
    ///
    /// # Panics
    /// If the last element lies outside `data`.
    #[must_use]
    pub fn with_stride(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        let view = Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride: 1,
        };
        view.check();
        view
    }

    /// The transposed view of the same elements.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// Element `(i, j)`.
    #[must_use]
    pub fn at(&self, i: usize, j: usize) -> f32 {
        self.data[i * self.row_stride + j * self.col_stride]
    }

    /// Panics unless every element of the view lies inside its slice. The fields are public, so
    /// kernels that index without checks call this once more themselves.
    pub(crate) fn check(&self) {
        if self.rows == 0 || self.cols == 0 {
            return;
        }
        let last = last_index(self.rows, self.row_stride)
            .zip(last_index(self.cols, self.col_stride))
            .and_then(|(i, j)| i.checked_add(j));
        assert!(
            last.is_some_and(|last| last < self.data.len()),
            "a {}x{} matrix view with strides ({}, {}) does not fit in {} elements",
            self.rows,
            self.cols,
            self.row_stride,
            self.col_stride,
            self.data.len()
        );
    }
}

/// A writable row-major matrix view: element `(i, j)` is `data[i * row_stride + j]`.
#[derive(Debug)]
pub struct MatMut<'a> {
    /// The elements, row-major.
    pub data: &'a mut [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Distance in elements between vertically adjacent elements, at least `cols`.
    pub row_stride: usize,
}

impl<'a> MatMut<'a> {
    /// A contiguous row-major matrix.
    ///
    /// # Panics
    /// If `data` is shorter than `rows * cols`.
    #[must_use]
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::with_stride(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows start `row_stride` elements apart.
    ///
    /// # Panics
    /// If the last element lies outside `data`, or rows overlap.
    #[must_use]
    pub fn with_stride(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        let view = Self {
            data,
            rows,
            cols,
            row_stride,
        };
        view.check();
        view
    }

    /// Panics unless every element of the view lies inside its slice and rows do not overlap.
    pub(crate) fn check(&self) {
        if self.rows == 0 || self.cols == 0 {
            return;
        }
        let last = last_index(self.rows, self.row_stride)
            .and_then(|start| start.checked_add(self.cols - 1));
        assert!(
            last.is_some_and(|last| last < self.data.len()),
            "a {}x{} matrix view with row stride {} does not fit in {} elements",
            self.rows,
            self.cols,
            self.row_stride,
            self.data.len()
        );
        assert!(
            self.rows == 1 || self.row_stride >= self.cols,
            "the rows of a {}x{} matrix view with row stride {} overlap",
            self.rows,
            self.cols,
            self.row_stride
        );
    }
}

/// What a product does with what its destination holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Store {
    /// `C = A·B`; the old contents are never read, so they may be anything.
    Overwrite,
    /// `C += A·B`.
    Accumulate,
}

fn last_index(count: usize, stride: usize) -> Option<usize> {
    (count - 1).checked_mul(stride)
}
