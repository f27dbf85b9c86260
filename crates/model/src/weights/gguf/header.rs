//! A GGUF file up to its data: keys with values, and the table of tensors.
//!
//! Nothing here trusts a length: each is compared with the bytes that are left before it is used,
//! and lists grow as they are read.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{ALIGNMENT, MAGIC};

/// Why a file is refused.
pub(super) type Reason = String;

/// All that stands before the data.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) values: BTreeMap<String, Value>,
    /// Where key, type and value of each key stand.
    pub(super) entries: Vec<(String, Range<usize>)>,
    pub(super) tensors: Vec<TensorHead>,
    /// First byte of the data.
    pub(super) data: usize,
    pub(super) alignment: usize,
}

/// What the table says of a tensor.
#[derive(Debug)]
pub(super) struct TensorHead {
    pub(super) name: String,
    /// Rows first, the reverse of GGUF's order.
    pub(super) shape: Vec<usize>,
    /// GGUF's number of its type.
    pub(super) kind: u32,
    /// From the beginning of the data.
    pub(super) offset: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Whole(i128),
    Float(f64),
    Bool(bool),
    Text(String),
    List(Vec<Value>),
    /// A list whose content no model's config needs: of texts, or longer than [`MOST_LISTED`].
    Passed,
}

/// Longest list that is kept: a value for each layer, or the few ranges of a run embedding.
const MOST_LISTED: usize = 1 << 14;
const MOST_DIMENSIONS: u32 = 4;
const LARGEST_ALIGNMENT: usize = 1 << 16;

/// GGUF's number of a value's type.
pub(super) mod kind {
    pub(in super::super) const U32: u32 = 4;
    pub(in super::super) const F32: u32 = 6;
    pub(in super::super) const BOOL: u32 = 7;
    pub(in super::super) const TEXT: u32 = 8;
    pub(in super::super) const LIST: u32 = 9;
    pub(in super::super) const F64: u32 = 12;
}

impl Header {
    /// Reads the head of a file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        let mut cursor = Cursor { bytes, at: 0 };
        if cursor.take(MAGIC.len())? != MAGIC {
            return Err("it does not begin with `GGUF`".to_owned());
        }
        let version = cursor.u32()?;
        match version {
            2 | 3 => {}
            1 => return Err("version 1 is older than this reader; convert it again".to_owned()),
            _ if matches!(version.swap_bytes(), 1..=3) => {
                return Err("it is big-endian; convert it for this machine".to_owned());
            }
            _ => return Err(format!("version {version} is not 2 or 3")),
        }
        let (n_tensors, n_values) = (cursor.u64()?, cursor.u64()?);
        let mut header = Self {
            values: BTreeMap::new(),
            entries: Vec::new(),
            tensors: Vec::new(),
            data: 0,
            alignment: ALIGNMENT,
        };
        for _ in 0..n_values {
            header.push_value(&mut cursor)?;
        }
        header.alignment = header.read_alignment()?;
        for _ in 0..n_tensors {
            header.tensors.push(cursor.tensor()?);
        }
        header.data = cursor.at.next_multiple_of(header.alignment);
        Ok(header)
    }

    fn push_value(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Reason> {
        let begin = cursor.at;
        let key = cursor.text()?;
        let kind = cursor.u32()?;
        let value = match kind {
            kind::LIST => cursor.list(&key)?,
            _ => cursor.scalar(kind, &key)?,
        };
        self.entries.push((key.clone(), begin..cursor.at));
        match self.values.insert(key.clone(), value) {
            None => Ok(()),
            Some(_) => Err(format!("key `{key}` is there twice")),
        }
    }

    fn read_alignment(&self) -> Result<usize, Reason> {
        match self.values.get("general.alignment") {
            None => Ok(ALIGNMENT),
            Some(Value::Whole(n)) => (usize::try_from(*n).ok())
                .filter(|n| n.is_power_of_two() && *n <= LARGEST_ALIGNMENT)
                .ok_or_else(|| format!("general.alignment = {n} is no power of two up to 65536")),
            Some(_) => Err("general.alignment is no whole number".to_owned()),
        }
    }
}

/// A place in a file.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Reason> {
        let end = self.at.checked_add(len);
        let Some(taken) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            let (at, left) = (self.at, self.bytes.len() - self.at);
            return Err(format!(
                "it ends within its header: {len} bytes are announced at byte {at}, {left} are left; \
                 copy or download it again"
            ));
        };
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let taken = self.take(N)?;
        Ok(*taken.first_chunk().expect("as long as was asked for"))
    }

    fn u32(&mut self) -> Result<u32, Reason> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Reason> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length or size that memory can have.
    fn size(&mut self) -> Result<usize, Reason> {
        let at = self.at;
        let size = self.u64()?;
        usize::try_from(size).map_err(|_| format!("size {size} at byte {at} is absurd"))
    }

    fn text(&mut self) -> Result<String, Reason> {
        let at = self.at;
        let len = self.size()?;
        let bytes = self.take(len)?.to_vec();
        String::from_utf8(bytes).map_err(|_| format!("the text at byte {at} is not UTF-8"))
    }

    fn scalar(&mut self, kind: u32, key: &str) -> Result<Value, Reason> {
        Ok(match kind {
            0 => Value::Whole(u8::from_le_bytes(self.array()?).into()),
            1 => Value::Whole(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Whole(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Whole(i16::from_le_bytes(self.array()?).into()),
            kind::U32 => Value::Whole(self.u32()?.into()),
            5 => Value::Whole(i32::from_le_bytes(self.array()?).into()),
            kind::F32 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            kind::BOOL => Value::Bool(self.array::<1>()? != [0]),
            kind::TEXT => Value::Text(self.text()?),
            10 => Value::Whole(self.u64()?.into()),
            11 => Value::Whole(i64::from_le_bytes(self.array()?).into()),
            kind::F64 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return Err(format!("key `{key}` has a value of unknown type {kind}")),
        })
    }

    fn list(&mut self, key: &str) -> Result<Value, Reason> {
        let kind = self.u32()?;
        let len = self.size()?;
        let keeps = len <= MOST_LISTED && kind != kind::TEXT;
        let mut items = Vec::new();
        for _ in 0..len {
            // Every item takes at least a byte, so that this ends with the file.
            let item = self.scalar(kind, key)?;
            if keeps {
                items.push(item);
            }
        }
        Ok(if keeps {
            Value::List(items)
        } else {
            Value::Passed
        })
    }

    fn tensor(&mut self) -> Result<TensorHead, Reason> {
        let name = self.text()?;
        let dimensions = self.u32()?;
        if dimensions == 0 || dimensions > MOST_DIMENSIONS {
            return Err(format!("tensor `{name}` has {dimensions} dimensions"));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.size()?);
        }
        shape.reverse();
        Ok(TensorHead {
            name,
            shape,
            kind: self.u32()?,
            offset: self.size()?,
        })
    }
}
