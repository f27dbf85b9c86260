//! Long texts that the log holds already, found by their bytes.

/// Shorter texts take less room than their number and the search would be worth.
pub const SHORTEST: usize = 24;
/// Bounds on what is remembered; beyond them texts are written out each time.
const MOST_BYTES: usize = 16 << 20;
const MOST_TEXTS: usize = 1 << 18;

/// Where a text stands.
pub enum Place {
    /// Written before, under this number.
    Known(u64),
    /// New, and remembered under the next number.
    New,
    /// New, and there is no room to remember it.
    Passing,
}

struct Text {
    hash: u64,
    start: usize,
    size: usize,
}

/// An open-addressing table over one buffer of bytes.
#[derive(Default)]
pub struct Interned {
    bytes: Vec<u8>,
    texts: Vec<Text>,
    /// Number of a text plus one; 0 is free. The size is a power of two.
    table: Vec<u32>,
}

impl Interned {
    /// Looks a text up and remembers it if it is new.
    pub fn place(&mut self, text: &[u8]) -> Place {
        if self.texts.len() * 2 >= self.table.len() {
            self.grow();
        }
        let hash = hash(text);
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        while self.table[at] != 0 {
            let number = self.table[at] as usize - 1;
            let known = &self.texts[number];
            if known.hash == hash && &self.bytes[known.start..known.start + known.size] == text {
                return Place::Known(number as u64);
            }
            at = (at + 1) & mask;
        }
        // The memory may be limited, and is the program's first.
        if self.texts.len() >= MOST_TEXTS
            || self.bytes.len() + text.len() > MOST_BYTES
            || self.bytes.try_reserve(text.len()).is_err()
        {
            return Place::Passing;
        }
        self.texts.push(Text { hash, start: self.bytes.len(), size: text.len() });
        self.bytes.extend(text);
        self.table[at] = self.texts.len() as u32;
        Place::New
    }

    fn grow(&mut self) {
        let size = (self.table.len() * 2).max(256);
        self.table = vec![0; size];
        for (number, text) in self.texts.iter().enumerate() {
            let mut at = text.hash as usize & (size - 1);
            while self.table[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            self.table[at] = number as u32 + 1;
        }
    }
}

/// Multiplies and folds eight bytes at a time. Texts with equal hashes are told apart by their bytes.
fn hash(text: &[u8]) -> u64 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ text.len() as u64;
    let mut chunks = text.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        state = fold(state ^ u64::from_le_bytes(word), 0xd6e8_feb8_6659_fd93);
    }
    let mut word = [0; 8];
    word[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    fold(state ^ u64::from_le_bytes(word), 0xa076_1d64_78bd_642f)
}
