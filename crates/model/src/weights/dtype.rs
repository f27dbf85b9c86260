//! The ways a tensor's values lie in bytes, and the sizes that follow.

/// How the values of a tensor are stored. All of them are little-endian and row-major; a row of a
/// block format is a whole number of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 32-bit floats: exact.
    F32,
    /// IEEE half precision: 10 bits of mantissa, at most 65,504.
    F16,
    /// The upper half of an [`F32`](Dtype::F32): 7 bits of mantissa.
    Bf16,
    /// Our int8 form: a code of 8 bits for a weight and, beside them, an f32 scale for each row and
    /// 32 columns (the last group of a row may be short).
    Int8Group32,
    /// Our int4 form with an f16 scale for each row and 32 columns. A row is cut into runs of 32
    /// columns of 16 bytes each: byte `j` holds column `j` in its low and column `j + 16` in its
    /// high half; weight = (code - 8) * scale. What a short last run lacks is zero weights.
    Int4Group32,
    /// [`Int4Group32`](Dtype::Int4Group32) with a scale for 128 columns.
    Int4Group128,
    /// GGUF's blocks of 32 codes of 8 bits and an f16 scale: 34 bytes.
    Q8_0,
    /// GGUF's blocks of 32 codes of 4 bits and an f16 scale: 18 bytes.
    Q4_0,
    /// GGUF's blocks of 32 codes of 4 bits, an f16 scale and an f16 least value: 20 bytes.
    Q4_1,
    /// GGUF's blocks of 256 codes of 4 bits, whose eight groups have scales and least values of
    /// their own: 144 bytes.
    Q4K,
    /// GGUF's blocks of 256 codes of 6 bits, whose sixteen groups have scales of their own: 210
    /// bytes.
    Q6K,
}

/// Columns in 16 bytes of our int4 form.
pub(super) const NIBBLE_RUN: usize = 32;

impl Dtype {
    /// The name that commands and messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8Group32 => "int8",
            Self::Int4Group32 => "int4-g32",
            Self::Int4Group128 => "int4-g128",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q4K => "q4_k",
            Self::Q6K => "q6_k",
        }
    }

    /// Values and bytes of the smallest unit that stands for itself, scales beside it left out.
    fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Int8Group32 => (1, 1),
            Self::Int4Group32 | Self::Int4Group128 => (NIBBLE_RUN, NIBBLE_RUN / 2),
            Self::Q8_0 => (32, 34),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q4K => (256, 144),
            Self::Q6K => (256, 210),
        }
    }

    /// Bytes of a row of `cols` values, scales beside it left out; `None` where the format has no
    /// rows of that width. Our int4 form fills up the last run, GGUF's formats do not.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        let (values, bytes) = self.block();
        let fills_up = matches!(self, Self::Int4Group32 | Self::Int4Group128);
        (fills_up || cols.is_multiple_of(values))
            .then(|| cols.div_ceil(values))?
            .checked_mul(bytes)
    }

    /// Columns that share a scale which lies beside the codes, and the type of these scales.
    pub fn scales(self) -> Option<(usize, Self)> {
        match self {
            Self::Int8Group32 => Some((cwm_kernels::INT8_GROUP, Self::F32)),
            Self::Int4Group32 => Some((32, Self::F16)),
            Self::Int4Group128 => Some((128, Self::F16)),
            _ => None,
        }
    }

    /// The largest magnitude that can be stored: beyond it a value or the scale of its block would
    /// become infinite.
    pub(super) fn largest(self) -> f32 {
        let scale = half::f16::MAX.to_f32();
        match self {
            Self::F32 | Self::Int8Group32 => f32::MAX,
            Self::Bf16 => half::bf16::MAX.to_f32(),
            Self::F16 => scale,
            Self::Q8_0 => 127.0 * scale,
            _ => 8.0 * scale,
        }
    }
}
