//! Reading: where every tensor lies, under Hugging Face's name.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use super::super::Dtype;
use super::super::bytes::Bytes;
use super::super::checkpoint::{Bits, Found, FoundTensor, Place, RowOrder, Stored, WeightsFile};
use super::header::{Header, Reason, TensorHead};
use super::{FOREIGN_TYPES, MAGIC, ROPE_FACTORS, TYPES, config, hugging_face_name};
use crate::Error;

/// Whether a file of these bytes says that it is GGUF.
pub(in super::super) fn is_gguf(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Reads the head of a file, which messages call `path`.
pub(in super::super) fn read(path: PathBuf, bytes: Bytes) -> Result<Found, Error> {
    let unusable = |reason: Reason| Error::Gguf {
        path: path.clone(),
        reason,
    };
    let header = Header::parse(&bytes).map_err(unusable)?;
    let ranges = ranges(&header, bytes.len()).map_err(unusable)?;
    let factors = rope_factors(&header, &ranges, &bytes).map_err(unusable)?;
    let (config, notes) = config::read(&header, factors.as_deref()).map_err(unusable)?;
    // The sizes have been read; what they may not be is the config's to say.
    config.validate().map_err(|error| match error {
        Error::Config { reason, .. } => Error::Config {
            path: Some(path.clone()),
            reason,
        },
        other => other,
    })?;
    let mut tensors = BTreeMap::new();
    for (head, range) in header.tensors.iter().zip(ranges) {
        if head.name == ROPE_FACTORS {
            continue;
        }
        // A name that is none of ours is kept, and refused as not belonging to the model.
        let name = hugging_face_name(&head.name).unwrap_or_else(|| head.name.clone());
        let order = match name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight") {
            true => RowOrder::Pairs {
                head_dim: config.head_dim,
            },
            false => RowOrder::Plain,
        };
        let tensor = FoundTensor {
            stored: stored(head.kind),
            shape: head.shape.clone(),
            order,
            at: Bits::Whole(Place { file: 0, range }),
        };
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(unusable(format!("tensor `{}` is there twice", head.name)));
        }
    }
    let carried = header.entries.iter().filter(|(key, _)| is_carried(key));
    let carried = carried.map(|(_, range)| range.clone()).collect();
    Ok(Found {
        config,
        listing: path.clone(),
        files: vec![WeightsFile { path, bytes }],
        tensors,
        notes,
        carried,
    })
}

/// Whether a key is passed on as it is when the file is converted: the tokenizer, which no other
/// form here has room for, and what says whose model it is.
fn is_carried(key: &str) -> bool {
    let about = ["general.name", "general.author", "general.license"];
    key.starts_with("tokenizer.") || about.contains(&key)
}

fn stored(kind: u32) -> Stored {
    if let Some((dtype, ..)) = TYPES.iter().find(|(_, number, _)| *number == kind) {
        return Stored::As(*dtype);
    }
    let name = FOREIGN_TYPES.iter().find(|(number, _)| *number == kind);
    Stored::Foreign(match name {
        Some((_, name)) => (*name).to_owned(),
        None => format!("GGUF's type {kind}"),
    })
}

/// Where each tensor lies in a file of `len` bytes: inside it, aligned and apart from the others.
/// Were they allowed to share bytes, a small file could describe a model of any size.
fn ranges(header: &Header, len: usize) -> Result<Vec<Range<usize>>, Reason> {
    let mut ranges = Vec::with_capacity(header.tensors.len());
    for head in &header.tensors {
        let (name, offset) = (&head.name, head.offset);
        if !offset.is_multiple_of(header.alignment) {
            return Err(format!(
                "tensor `{name}` begins at {offset}, which is no multiple of {}",
                header.alignment
            ));
        }
        let size = size(head)?;
        let begin = header.data.checked_add(offset);
        let range = begin.and_then(|begin| Some(begin..begin.checked_add(size)?));
        let Some(range) = range.filter(|range| range.end <= len) else {
            return Err(format!(
                "tensor `{name}` of {size} bytes at {offset} passes the end of the file; copy or \
                 download it again"
            ));
        };
        ranges.push(range);
    }
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_by_key(|&at| (ranges[at].start, ranges[at].end));
    for pair in order.windows(2) {
        let [first, second] = [pair[0], pair[1]];
        if ranges[second].start < ranges[first].end {
            return Err(format!(
                "tensors `{}` and `{}` share bytes",
                header.tensors[first].name, header.tensors[second].name
            ));
        }
    }
    Ok(ranges)
}

/// Bytes of a tensor; 0 of one in a type whose sizes are not known here, which is refused later.
fn size(head: &TensorHead) -> Result<usize, Reason> {
    let Stored::As(dtype) = stored(head.kind) else {
        return Ok(0);
    };
    let (cols, rows) = head.shape.split_last().expect("a tensor has dimensions");
    let name = &head.name;
    let Some(row) = dtype.row_bytes(*cols) else {
        return Err(format!(
            "tensor `{name}` has rows of {cols} values, which are no whole blocks of {}",
            dtype.name()
        ));
    };
    (rows.iter())
        .try_fold(row, |bytes, rows| bytes.checked_mul(*rows))
        .ok_or_else(|| format!("tensor `{name}` of shape {:?} is absurd", head.shape))
}

/// By how much each frequency of RoPE is divided, where the file says so in a tensor.
fn rope_factors(
    header: &Header,
    ranges: &[Range<usize>],
    bytes: &[u8],
) -> Result<Option<Vec<f32>>, Reason> {
    let found = header.tensors.iter().zip(ranges);
    let Some((head, range)) = found
        .into_iter()
        .find(|(head, _)| head.name == ROPE_FACTORS)
    else {
        return Ok(None);
    };
    if !matches!(stored(head.kind), Stored::As(Dtype::F32)) {
        return Err(format!("tensor `{ROPE_FACTORS}` is not F32"));
    }
    let (values, _) = bytes[range.clone()].as_chunks();
    let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes));
    Ok(Some(values.collect()))
}
