//! Files that are sound are read bit for bit, and every other is refused without a panic.

use cwm_kernels::Pool;
use proptest::prelude::*;

use super::*;

const SHAPES: [(usize, usize, WeightFormat); 3] = [
    (3, 5, WeightFormat::Int8),
    (65, 33, WeightFormat::Bf16),
    (1, 200, WeightFormat::Int4Group128),
];

fn label() -> Label {
    Label::new("a key".to_owned(), WeightFormat::Int8)
}

fn matrices() -> Vec<Linear> {
    let pool = Pool::solo();
    let pack = |&(n, k, format): &(usize, usize, WeightFormat)| {
        Linear::pack(format, n, k, &pool, |row, out| {
            out.fill(row as f32 * 0.1 - 1.0)
        })
    };
    SHAPES.iter().map(pack).collect()
}

fn bytes() -> Vec<u8> {
    let (mut bytes, matrices) = (Vec::new(), matrices());
    let n = write_to(&mut bytes, &label(), matrices.iter()).expect("memory takes it");
    assert_eq!(n, bytes.len() as u64);
    bytes
}

/// Reads a file that claims to be `len` bytes.
fn read(bytes: &[u8], len: u64) -> Result<Vec<Linear>, Problem> {
    let mut reader = Reader::new(bytes, len, &label())?;
    let matrices = SHAPES
        .iter()
        .map(|&(n, k, format)| reader.matrix(n, k, format))
        .collect::<Result<_, _>>()?;
    reader.finish()?;
    Ok(matrices)
}

fn problem(bytes: &[u8]) -> String {
    let error = read(bytes, bytes.len() as u64).expect_err("it must be refused");
    error.to_string()
}

/// The file with another header, as long as that needs.
fn with_header(edit: impl Fn(&str) -> String) -> Vec<u8> {
    let mut bytes = bytes();
    let len = u32::from_le_bytes(bytes[8..START].try_into().expect("4 bytes")) as usize;
    let text = String::from_utf8(bytes[START..START + len].to_vec()).expect("JSON");
    let other = edit(&text);
    assert_ne!(other, text, "nothing was edited");
    bytes.splice(START..START + len, other.bytes());
    bytes[8..START].copy_from_slice(&(other.len() as u32).to_le_bytes());
    bytes
}

#[test]
fn what_was_written_is_read() {
    let bytes = bytes();
    let read = read(&bytes, bytes.len() as u64).expect("it is sound");
    for (read, written) in read.iter().zip(matrices()) {
        assert_eq!(read.bytes(), written.bytes());
    }
    let data: usize = read.iter().map(Linear::n_bytes).sum();
    assert_eq!((bytes.len() - data) % ALIGN, 0);
}

#[test]
fn every_cut_and_every_flipped_bit_is_noticed() {
    let good = bytes();
    for len in 0..good.len() {
        let cut = &good[..len];
        assert!(read(cut, len as u64).is_err(), "{len} bytes");
        // As if it were cut while it is read.
        assert!(read(cut, good.len() as u64).is_err(), "{len} bytes");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(problem(&longer).contains("length"));
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        let Ok(read) = read(&bytes, bytes.len() as u64) else {
            continue;
        };
        // One space became another: nothing that is used is damaged.
        assert!(bytes[at].is_ascii_whitespace(), "byte {at}");
        assert_eq!(read[1].bytes(), matrices()[1].bytes());
    }
}

#[test]
fn headers_that_promise_too_much_are_refused() {
    let cases = [
        ("\"n\":3", "\"n\":18446744073709551615", "not the one"),
        ("\"k\":5", "\"k\":1000000000000", "not the one"),
        ("\"bytes\":2176", "\"bytes\":18446744073709551615", "length"),
        ("\"int4-g128\"", "\"int8\"", "not the one"),
        ("\"n\":3", "\"n\":-3", "not understood"),
        ("\"n\":3", "\"n\":3,\"m\":3", "not understood"),
        ("\"version\":1", "\"version\":2", "another model"),
        ("\"layout\":", "\"layout\":9", "another model"),
        ("a key", "other", "another model"),
        ("\"matrices\":[", "\"matrices\":[[", "not understood"),
    ];
    for (from, to, expected) in cases {
        let bytes = with_header(|text| text.replacen(from, to, 1));
        let problem = problem(&bytes);
        assert!(problem.contains(expected), "{to}: {problem}");
    }
    let deep = with_header(|_| "[".repeat(100_000));
    assert!(problem(&deep).contains("not understood"));
    let mut bytes = bytes();
    bytes[8..START].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(problem(&bytes).contains("too long"));
    bytes[8..START].copy_from_slice(&(MAX_HEADER as u32).to_le_bytes());
    assert!(problem(&bytes).contains("cut short"));
}

#[test]
fn matrices_too_many_or_too_few_are_refused() {
    let (mut few, mut many, all) = (Vec::new(), Vec::new(), matrices());
    write_to(&mut few, &label(), all[..2].iter()).expect("memory takes it");
    write_to(&mut many, &label(), all.iter().chain(&all[..1])).expect("memory takes it");
    assert!(problem(&few).contains("lacks a matrix"));
    assert!(problem(&many).contains("too many"));
}

proptest! {
    /// Whatever is read is what was written, or bytes whose checksum holds.
    #[test]
    fn nothing_makes_the_reader_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..9),
        claimed in any::<Option<u64>>(),
        raw in prop::collection::vec(any::<u8>(), 0..200),
        is_edited in any::<bool>(),
    ) {
        let bytes = if is_edited {
            let mut bytes = bytes();
            for (at, to) in edits {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
            bytes
        } else {
            [&MAGIC[..], &raw].concat()
        };
        if let Ok(read) = read(&bytes, claimed.unwrap_or(bytes.len() as u64)) {
            prop_assert!(read.iter().zip(matrices()).all(|(a, b)| a.bytes() == b.bytes()));
        }
    }
}
