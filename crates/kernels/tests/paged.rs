//! Attention over pages: against the plain definition, and bit for bit against itself in other
//! company.

mod common;

use common::Random;
use cwm_kernels::{
    AttentionShape, KvBuffer, KvFormat, KvPlane, PAGE, PagedQueries, Pool, attention_paged,
    plane_len,
};
use proptest::prelude::*;

/// A sequence whose keys and values lie in pages, poisoned where nothing was written.
struct Case {
    shape: AttentionShape,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    pages: Vec<KvBuffer>,
}

impl Case {
    fn new(shape: AttentionShape, len: usize, format: KvFormat, random: &mut Random) -> Self {
        let width = shape.kv_width();
        let (mut k, mut v) = (random.values(len * width), random.values(len * width));
        let poison = || match format {
            KvFormat::F32 => KvBuffer::F32(vec![f32::NAN; plane_len(shape)]),
            KvFormat::Bf16 => KvBuffer::Bf16(vec![0x7fc0; plane_len(shape)]),
        };
        let mut pages: Vec<KvBuffer> = (0..len.div_ceil(PAGE)).map(|_| poison()).collect();
        for at in 0..len {
            let row = at * width..(at + 1) * width;
            let page = &mut pages[at / PAGE];
            page.write(0, shape, at % PAGE, &k[row.clone()], &v[row.clone()]);
            // What was rounded is what is compared with.
            page.plane(0, shape)
                .read(shape, at % PAGE, &mut k[row.clone()], &mut v[row]);
        }
        let q = random.values(len * shape.q_width());
        Self {
            shape,
            q,
            k,
            v,
            pages,
        }
    }

    fn run(&self, rows: std::ops::Range<usize>, window: Option<usize>, pool: &Pool) -> Vec<f32> {
        let first_page = window.map_or(0, |w| (rows.start + 1).saturating_sub(w)) / PAGE;
        let planes: Vec<KvPlane<'_>> = self.pages[first_page..]
            .iter()
            .map(|page| page.plane(0, self.shape))
            .collect();
        let width = self.shape.q_width();
        let mut out = vec![f32::NAN; rows.len() * width];
        let queries = PagedQueries {
            q: &self.q[rows.start * width..],
            stride: width,
            start: rows.start,
            window,
            pages: &planes,
            first_page,
        };
        attention_paged(&mut out, queries, self.shape, pool);
        out
    }

    /// The definition, in f64.
    fn reference(&self, row: usize, window: Option<usize>) -> Vec<f64> {
        let AttentionShape {
            n_heads, head_dim, ..
        } = self.shape;
        let (group, width) = (self.shape.group(), self.shape.kv_width());
        let first = window.map_or(0, |w| (row + 1).saturating_sub(w));
        let mut out = vec![0.0; self.shape.q_width()];
        for head in 0..n_heads {
            let at = |position: usize, d: usize| position * width + head / group * head_dim + d;
            let q = |d: usize| f64::from(self.q[row * n_heads * head_dim + head * head_dim + d]);
            let scores: Vec<f64> = (first..=row)
                .map(|j| {
                    let dot: f64 = (0..head_dim)
                        .map(|d| q(d) * f64::from(self.k[at(j, d)]))
                        .sum();
                    (dot / (head_dim as f64).sqrt()).exp()
                })
                .collect();
            let total: f64 = scores.iter().sum();
            for d in 0..head_dim {
                let value = |(score, j): (&f64, usize)| score * f64::from(self.v[at(j, d)]);
                out[head * head_dim + d] =
                    scores.iter().zip(first..).map(value).sum::<f64>() / total;
            }
        }
        out
    }
}

const fn shape(n_heads: usize, n_kv_heads: usize, head_dim: usize) -> AttentionShape {
    AttentionShape {
        n_heads,
        n_kv_heads,
        head_dim,
    }
}

#[test]
fn it_is_the_definition() {
    let mut random = Random(1);
    let pool = Pool::new(2);
    for format in [KvFormat::F32, KvFormat::Bf16] {
        for (shape, len) in [
            (shape(1, 1, 8), 1),
            (shape(4, 2, 64), 130),
            (shape(6, 1, 20), 70),
            (shape(3, 3, 5), 65),
            (shape(2, 1, 128), 64),
            (shape(5, 5, 72), 200),
        ] {
            let case = Case::new(shape, len, format, &mut random);
            for window in [None, Some(1), Some(33), Some(64), Some(100)] {
                let got = case.run(0..len, window, &pool);
                for (row, got) in got.chunks_exact(shape.q_width()).enumerate() {
                    for (got, want) in got.iter().zip(case.reference(row, window)) {
                        let error = (f64::from(*got) - want).abs();
                        assert!(
                            error < 3e-6,
                            "{shape:?} {format:?} {window:?} row {row}: {got} for {want}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_copy_of_some_positions_is_those_positions() {
    let mut random = Random(2);
    let shape = shape(4, 2, 12);
    let case = Case::new(shape, PAGE, KvFormat::Bf16, &mut random);
    let mut copy = KvBuffer::zeros(KvFormat::Bf16, plane_len(shape));
    copy.copy_positions(&case.pages[0], shape, 10);
    let read = |buffer: &KvBuffer, at: usize| {
        let (mut k, mut v) = (vec![0.0; shape.kv_width()], vec![0.0; shape.kv_width()]);
        buffer.plane(0, shape).read(shape, at, &mut k, &mut v);
        (k, v)
    };
    for at in 0..PAGE {
        let zeros = (vec![0.0; shape.kv_width()], vec![0.0; shape.kv_width()]);
        let want = if at < 10 {
            read(&case.pages[0], at)
        } else {
            zeros
        };
        assert_eq!(read(&copy, at), want, "position {at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_query_gets_the_same_in_any_company(
        seed: u64,
        heads in 1usize..3,
        group in 1usize..5,
        head_dim in 1usize..70,
        len in 1usize..180,
        window in proptest::option::of(1usize..150),
        bf16: bool,
    ) {
        let mut random = Random(seed);
        let shape = shape(heads * group, heads, head_dim);
        let format = if bf16 { KvFormat::Bf16 } else { KvFormat::F32 };
        let case = Case::new(shape, len, format, &mut random);
        let (solo, three) = (Pool::solo(), Pool::new(3));
        let alone: Vec<f32> = (0..len).flat_map(|row| case.run(row..row + 1, window, &solo)).collect();
        let start = random.below(len);
        let end = start + 1 + random.below(len - start);
        let width = shape.q_width();
        for pool in [&solo, &three] {
            let together = case.run(start..end, window, pool);
            prop_assert!(together == alone[start * width..end * width]);
        }
    }
}
