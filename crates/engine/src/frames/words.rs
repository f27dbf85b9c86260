//! A sorted list of words, none the beginning of another, read byte by byte.

/// The words.
#[derive(Debug)]
pub(super) struct Words {
    sorted: Vec<Box<[u8]>>,
}

/// The words that begin with the bytes read so far: `low..high`, which is never empty, and how
/// many bytes these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Span {
    pub(super) low: u32,
    pub(super) high: u32,
    length: u32,
}

impl Words {
    /// Every word ends in `end`, which no word holds elsewhere: so none begins another.
    pub(super) fn new(words: impl IntoIterator<Item = Vec<u8>>, end: u8) -> Self {
        let mut sorted: Vec<Box<[u8]>> = words.into_iter().map(Vec::into_boxed_slice).collect();
        debug_assert!(
            sorted
                .iter()
                .all(|word| word.iter().position(|&byte| byte == end) == Some(word.len() - 1))
        );
        sorted.sort_unstable();
        sorted.dedup();
        Self { sorted }
    }

    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Nothing read yet; `None` where there are no words.
    pub(super) fn start(&self) -> Option<Span> {
        (!self.sorted.is_empty()).then_some(Span {
            low: 0,
            high: self.sorted.len() as u32,
            length: 0,
        })
    }

    /// Goes on by a byte, if any word does.
    pub(super) fn step(&self, span: Span, byte: u8) -> Option<Span> {
        let at = span.length as usize;
        let words = &self.sorted[span.low as usize..span.high as usize];
        // A complete word is alone in its span, so that all of several have a byte here.
        let here = |word: &[u8]| word.get(at).copied();
        let begin = words.partition_point(|word| here(word) < Some(byte));
        let count = words[begin..].partition_point(|word| here(word) == Some(byte));
        (count > 0).then_some(Span {
            low: span.low + begin as u32,
            high: span.low + (begin + count) as u32,
            length: span.length + 1,
        })
    }

    /// The number of the word that was read to its end.
    pub(super) fn complete(&self, span: Span) -> Option<u32> {
        let is_whole = self.sorted[span.low as usize].len() == span.length as usize;
        is_whole.then_some(span.low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &Words, text: &str) -> Option<Option<u32>> {
        let mut span = words.start()?;
        for byte in text.bytes() {
            span = words.step(span, byte)?;
        }
        Some(words.complete(span))
    }

    #[test]
    fn words_are_read_byte_by_byte() {
        let words = ["ab;", "a;", "b;", "ab;"].map(|word| word.as_bytes().to_vec());
        let words = Words::new(words, b';');
        assert_eq!(words.len(), 3);
        for (text, result) in [
            ("", Some(None)),
            ("a", Some(None)),
            ("a;", Some(Some(0))),
            ("ab;", Some(Some(1))),
            ("b;", Some(Some(2))),
            ("c", None),
            ("ab;x", None),
        ] {
            assert_eq!(read(&words, text), result, "{text}");
        }
        assert_eq!(Words::new([], b';').start(), None);
    }
}
