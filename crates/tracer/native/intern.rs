//! Long texts that the log holds already, found by their bytes.

/// Shorter texts take less room than their number and the search would be worth.
pub const SHORTEST: usize = 24;
/// What a generation holds; the reader, `src/texts.rs`, has the same bounds.
const MOST_BYTES: usize = 8 << 20;
const MOST_TEXTS: usize = 1 << 17;

/// Where a text stands.
pub enum Place {
    /// Written before, under this number.
    Known(u64),
    /// New, and remembered under the next number.
    New,
    /// New, and there is no room to remember it.
    Passing,
}

/// The texts of the last two generations: what is used for long is forgotten late.
#[derive(Default)]
pub struct Interned {
    current: Generation,
    previous: Generation,
}

impl Interned {
    /// Looks a text up and remembers it if it is new.
    pub fn place(&mut self, text: &[u8]) -> Place {
        let hash = hash(text);
        let found = self.current.find(hash, text).or_else(|| self.previous.find(hash, text));
        if let Some(number) = found {
            return Place::Known(number);
        }
        if text.len() > MOST_BYTES {
            return Place::Passing;
        }
        if self.current.is_full(text) {
            // A generation must not end here for want of memory: the reader would not know.
            if self.previous.bytes.try_reserve(text.len()).is_err() {
                return Place::Passing;
            }
            std::mem::swap(&mut self.current, &mut self.previous);
            self.current.restart(self.previous.next());
        }
        // The memory may be limited, and is the program's first.
        if self.current.add(hash, text) { Place::New } else { Place::Passing }
    }
}

struct Text {
    hash: u64,
    start: usize,
    size: usize,
}

/// An open-addressing table over one buffer of bytes.
#[derive(Default)]
struct Generation {
    /// The number of its first text.
    first: u64,
    bytes: Vec<u8>,
    texts: Vec<Text>,
    /// Place of a text plus one; 0 is free. The size is a power of two.
    table: Vec<u32>,
}

impl Generation {
    /// The number of the text that comes after its last.
    fn next(&self) -> u64 {
        self.first + self.texts.len() as u64
    }

    /// Whether this text is for the next generation.
    fn is_full(&self, text: &[u8]) -> bool {
        self.texts.len() >= MOST_TEXTS || self.bytes.len() + text.len() > MOST_BYTES
    }

    fn restart(&mut self, first: u64) {
        self.first = first;
        self.bytes.clear();
        self.texts.clear();
        self.table.fill(0);
    }

    #[inline(always)]
    fn find(&self, hash: u64, text: &[u8]) -> Option<u64> {
        let mask = self.table.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        while self.table[at] != 0 {
            let place = self.table[at] as usize - 1;
            let known = &self.texts[place];
            if known.hash == hash && &self.bytes[known.start..known.start + known.size] == text {
                return Some(self.first + place as u64);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// False if there is no memory for it.
    fn add(&mut self, hash: u64, text: &[u8]) -> bool {
        if self.bytes.try_reserve(text.len()).is_err() {
            return false;
        }
        if self.texts.len() * 2 >= self.table.len() {
            self.grow();
        }
        self.texts.push(Text { hash, start: self.bytes.len(), size: text.len() });
        self.bytes.extend(text);
        self.enter(hash, self.texts.len() as u32);
        true
    }

    fn grow(&mut self) {
        self.table = vec![0; (self.table.len() * 2).max(256)];
        for place in 0..self.texts.len() {
            self.enter(self.texts[place].hash, place as u32 + 1);
        }
    }

    fn enter(&mut self, hash: u64, entry: u32) {
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        while self.table[at] != 0 {
            at = (at + 1) & mask;
        }
        self.table[at] = entry;
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
