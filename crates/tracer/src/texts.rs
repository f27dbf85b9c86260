//! The numbered texts of a log, as far as records may still refer to them.

use std::sync::Arc;

/// What a generation holds; the writer, `native/intern.rs`, has the same bounds.
const MOST_BYTES: usize = 8 << 20;
const MOST_TEXTS: usize = 1 << 17;

/// The texts of the last two generations. A generation ends before the text that is too much for it.
#[derive(Default)]
pub(crate) struct Texts {
    previous: Vec<Arc<str>>,
    current: Vec<Arc<str>>,
    /// The number of the first text of `previous`.
    first: usize,
    /// The size of the texts in `current`.
    bytes: usize,
}

impl Texts {
    /// Gives a text the next number.
    pub(crate) fn push(&mut self, text: Arc<str>) {
        if self.current.len() >= MOST_TEXTS || self.bytes + text.len() > MOST_BYTES {
            self.first += self.previous.len();
            self.previous = std::mem::take(&mut self.current);
            self.bytes = 0;
        }
        self.bytes += text.len();
        self.current.push(text);
    }

    pub(crate) fn get(&self, number: usize) -> Option<&Arc<str>> {
        let place = number.checked_sub(self.first)?;
        let later = place.checked_sub(self.previous.len());
        later.map_or(self.previous.get(place), |place| self.current.get(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_generations_are_known() {
        let mut texts = Texts::default();
        for number in 0..2 * MOST_TEXTS + 5 {
            texts.push(number.to_string().into());
        }
        let known = |number: usize| texts.get(number).map(|text| &**text);
        assert_eq!(known(MOST_TEXTS - 1), None);
        for number in [
            MOST_TEXTS,
            2 * MOST_TEXTS - 1,
            2 * MOST_TEXTS,
            2 * MOST_TEXTS + 4,
        ] {
            assert_eq!(known(number), Some(&*number.to_string()));
        }
        assert_eq!(known(2 * MOST_TEXTS + 5), None);
    }

    #[test]
    fn long_texts_end_a_generation_early() {
        let mut texts = Texts::default();
        let long: Arc<str> = "x".repeat(MOST_BYTES / 2).into();
        for _ in 0..5 {
            texts.push(long.clone());
        }
        let known: Vec<_> = (0..6).map(|number| texts.get(number).is_some()).collect();
        assert_eq!(known, [false, false, true, true, true, false]);
    }
}
