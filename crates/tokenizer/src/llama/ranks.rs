//! The table of tokens: bytes to rank and back.
//!
//! A hash table of its own, because this lookup is what encoding spends its
//! time on, the keys are slices of one buffer, and they never change.

/// What is wrong with a `tokenizer.model` file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadFile {
    /// A line is not a token in base64, a space, and a rank.
    #[error("line {line} is not a token in base64 and its rank")]
    Line {
        /// Number of the line, from 1.
        line: usize,
    },
    /// Ranks must count from 0, one more on each line.
    #[error("line {line} has rank {rank}, but it should be {expected}")]
    Order {
        /// Number of the line, from 1.
        line: usize,
        /// Its rank.
        rank: u32,
        /// The rank it should have.
        expected: u32,
    },
    /// Two lines hold the same token.
    #[error("line {line} repeats a token")]
    Repeated {
        /// Number of the second of them, from 1.
        line: usize,
    },
    /// A byte is not a token, so not every text could be encoded.
    #[error("there is no token for the byte {byte:#04x} alone")]
    NoByte {
        /// The byte.
        byte: u8,
    },
    /// The reserved ids follow the tokens, so another number of tokens would
    /// give each of them another id.
    #[error("it has {found} tokens instead of {expected}")]
    Count {
        /// How many tokens there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// There are more tokens than any vocabulary has.
    #[error("there are more than {MOST} tokens")]
    TooMany,
}

/// Most tokens a file may have. Llama 3 has 128,000 and Llama 4 has 200,000.
const MOST: usize = 1 << 22;

/// Tokens by bytes and by rank.
pub(super) struct Ranks {
    /// All tokens, one after the other.
    bytes: Vec<u8>,
    /// Where each token starts in `bytes`, and where the last one ends.
    starts: Vec<u32>,
    /// Open addressing with linear probing; at most half full.
    slots: Vec<Slot>,
    /// Bits to drop from a hash to get a slot.
    shift: u32,
    /// Length of the longest token in bytes.
    longest: usize,
    /// Rank of each token of one byte.
    singles: [u32; 256],
}

/// A rank with a part of its token's hash, so that most wrong slots are left
/// without a look at the bytes.
#[derive(Clone, Copy)]
struct Slot {
    tag: u32,
    rank: u32,
}

const EMPTY: Slot = Slot {
    tag: 0,
    rank: u32::MAX,
};

impl Ranks {
    /// Reads a file of tokens.
    pub(super) fn parse(file: &[u8]) -> Result<Self, BadFile> {
        let lines = file.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        let count = lines.clone().filter(|line| !line.is_empty()).count();
        if count > MOST {
            return Err(BadFile::TooMany);
        }
        let mut ranks = Self::with_room(count);
        for (number, line) in (1..).zip(lines) {
            if !line.is_empty() {
                ranks.push_line(number, line)?;
            }
        }
        for byte in 0..=255 {
            let rank = ranks.get(&[byte]).ok_or(BadFile::NoByte { byte })?;
            ranks.singles[usize::from(byte)] = rank;
        }
        Ok(ranks)
    }

    /// The 256 bytes, in order.
    pub(super) fn bytes() -> Self {
        let mut ranks = Self::with_room(256);
        for byte in 0..=255 {
            ranks.bytes.push(byte);
            ranks
                .insert(usize::from(byte), byte.into())
                .expect("each byte is pushed once");
            ranks.singles[usize::from(byte)] = byte.into();
        }
        ranks
    }

    fn with_room(count: usize) -> Self {
        let slots = (2 * count).next_power_of_two().max(2);
        Self {
            bytes: Vec::new(),
            starts: vec![0],
            slots: vec![EMPTY; slots],
            shift: u64::BITS - slots.trailing_zeros(),
            longest: 0,
            singles: [0; 256],
        }
    }

    fn push_line(&mut self, line: usize, text: &[u8]) -> Result<(), BadFile> {
        let mut words = text
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        let (Some(token), Some(rank), None) = (words.next(), words.next(), words.next()) else {
            return Err(BadFile::Line { line });
        };
        let rank = std::str::from_utf8(rank)
            .ok()
            .and_then(|rank| rank.parse::<u32>().ok());
        let rank = rank.ok_or(BadFile::Line { line })?;
        let start = self.bytes.len();
        push_base64(token, &mut self.bytes).ok_or(BadFile::Line { line })?;
        let expected = self.base();
        if rank != expected {
            return Err(BadFile::Order {
                line,
                rank,
                expected,
            });
        }
        self.insert(start, rank).ok_or(BadFile::Repeated { line })
    }

    /// Files the token that begins at `start` and ends where `bytes` do.
    fn insert(&mut self, start: usize, rank: u32) -> Option<()> {
        let token = &self.bytes[start..];
        let hash = hash(token);
        if self.find(token, hash).is_some() {
            return None;
        }
        self.longest = self.longest.max(token.len());
        let mut place = self.place(hash);
        while self.slots[place].rank != EMPTY.rank {
            place = (place + 1) & (self.slots.len() - 1);
        }
        self.slots[place] = Slot {
            tag: tag(hash),
            rank,
        };
        // A file of fewer than 2^22 tokens has been read into memory; only a
        // token of gigabytes could pass 2^32 here.
        self.starts.push(u32::try_from(self.bytes.len()).ok()?);
        Some(())
    }

    /// Number of tokens.
    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of tokens as an id: the first that is not one of them.
    pub(super) fn base(&self) -> u32 {
        // `parse` allows no more than `MOST` tokens.
        self.len() as u32
    }

    /// The rank of a token.
    pub(super) fn get(&self, token: &[u8]) -> Option<u32> {
        if token.len() > self.longest {
            None
        } else {
            self.find(token, hash(token))
        }
    }

    /// The rank of a token of one byte.
    pub(super) fn single(&self, byte: u8) -> u32 {
        self.singles[usize::from(byte)]
    }

    /// The token with a rank.
    pub(super) fn token(&self, rank: u32) -> Option<&[u8]> {
        let rank = rank as usize;
        let (start, end) = (*self.starts.get(rank)?, *self.starts.get(rank + 1)?);
        Some(&self.bytes[start as usize..end as usize])
    }

    fn find(&self, token: &[u8], hash: u64) -> Option<u32> {
        let mut place = self.place(hash);
        loop {
            let slot = self.slots[place];
            if slot.rank == EMPTY.rank {
                return None;
            }
            if slot.tag == tag(hash) && self.token(slot.rank) == Some(token) {
                return Some(slot.rank);
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
    }

    /// Where the search for a hash starts: its high bits, the best mixed.
    fn place(&self, hash: u64) -> usize {
        (hash >> self.shift) as usize
    }
}

impl std::fmt::Debug for Ranks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ranks")
            .field("tokens", &self.len())
            .finish_non_exhaustive()
    }
}

fn tag(hash: u64) -> u32 {
    hash as u32
}

/// Multiply and fold, eight bytes at a time. The keys are fixed, so nobody can
/// choose them to collide.
fn hash(token: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |state: u64, word: u64| {
        let product = u128::from(state ^ word) * u128::from(MULTIPLIER);
        (product as u64) ^ ((product >> 64) as u64)
    };
    let mut state = token.len() as u64;
    let mut chunks = token.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        state = mix(state, u64::from_le_bytes(word));
    }
    let rest = chunks.remainder().iter().rev();
    let word = rest.fold(0, |word, &byte| word << 8 | u64::from(byte));
    mix(mix(state, word), MULTIPLIER)
}

/// Appends the bytes of a text in standard base64 with padding.
fn push_base64(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    for (place, group) in text.chunks_exact(4).enumerate() {
        let last = 4 * (place + 1) == text.len();
        let pad = if last { padding } else { 0 };
        if pad > 2 {
            return None;
        }
        let mut bits = 0_u32;
        for &letter in &group[..4 - pad] {
            bits = bits << 6 | sextet(letter)?;
        }
        bits <<= 6 * pad;
        let bytes = bits.to_be_bytes();
        out.extend_from_slice(&bytes[1..4 - pad]);
        // Bits after the last byte must be zero.
        if bytes[4 - pad..].iter().any(|&byte| byte != 0) {
            return None;
        }
    }
    Some(())
}

fn sextet(letter: u8) -> Option<u32> {
    let value = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_strictly() {
        let decode = |text: &str| {
            let mut out = Vec::new();
            push_base64(text.as_bytes(), &mut out).map(|()| out)
        };
        for (text, bytes) in [
            ("YQ==", &b"a"[..]),
            ("YWI=", b"ab"),
            ("YWJj", b"abc"),
            ("+/8AYWI=", b"\xfb\xff\0ab"),
        ] {
            assert_eq!(decode(text).as_deref(), Some(bytes), "{text}");
        }
        for text in [
            "", "YQ", "YQ=", "Y===", "====", "YQ==YQ==", "YR==", "YW_j", "YQ=a",
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
