//! Sums and copies: data for ladders that need no files.
//!
//! A row holds documents of two kinds, packed, each blind to the others: `12+34=46.` with numbers of 1
//! to 8 digits, lowest digit first, and a text of 2 to 16 letters followed by itself. Only what follows
//! `=` is predicted, so a perfect model has a loss of 0, and what a small one has left is the long
//! numbers and texts. A row is a function of seed and index.

use cwm_model::{Target, packed_spans};

use crate::batches::SplitMix64;
use crate::{Dataset, Example};

/// Ids 0 to 9 are the digits.
const DIGITS: u32 = 10;
const PLUS: u32 = 10;
const EQUALS: u32 = 11;
const END: u32 = 12;
const COPY: u32 = 13;
/// Id of the first letter; the rest of the vocabulary are letters.
const LETTERS: u32 = 14;
/// How many ids there are.
pub(crate) const VOCABULARY: u32 = 32;
/// First and last id of what stands in runs: digits and letters.
pub(crate) const RUNS: [[u32; 2]; 2] = [[0, DIGITS - 1], [LETTERS, VOCABULARY - 1]];

const MAX_DIGITS: u64 = 8;
const MAX_LETTERS: u64 = 16;

/// More than any run on a processor reads, yet its order is shuffled in milliseconds.
const TRAINING_ROWS: usize = 1 << 20;
const HELD_OUT_ROWS: usize = 128;
/// Distance between the seeds of training rows and of held-out ones.
const HELD_OUT_SEED: u64 = 0x5eed_0000_0000_0000;

/// Rows of sums and copies.
#[derive(Clone, Debug)]
pub struct Arithmetic {
    seed: u64,
    rows: usize,
    row_tokens: usize,
}

impl Arithmetic {
    /// About a million rows to train on, of `row_tokens` tokens each.
    pub fn training(row_tokens: usize) -> Self {
        Self {
            seed: 0,
            rows: TRAINING_ROWS,
            row_tokens,
        }
    }

    /// Other rows, to measure on.
    pub fn held_out(row_tokens: usize) -> Self {
        Self {
            seed: HELD_OUT_SEED,
            rows: HELD_OUT_ROWS,
            row_tokens,
        }
    }
}

impl Dataset for Arithmetic {
    fn len(&self) -> usize {
        self.rows
    }

    fn example(&self, index: usize) -> Example {
        let mut chance = SplitMix64(self.seed.wrapping_add(index as u64));
        // Seeds that differ by little begin with numbers that differ by much only after a step.
        let mut chance = SplitMix64(chance.next());
        let mut example = Example::default();
        let mut lengths = Vec::new();
        while example.ids.len() < self.row_tokens {
            let start = example.ids.len();
            let answer = start + write_document(&mut chance, &mut example.ids);
            example.ids.truncate(self.row_tokens);
            lengths.push(example.ids.len() - start);
            let answered = answer..example.ids.len();
            example.targets.extend(answered.map(|at| Target {
                row: at as u32 - 1,
                id: example.ids[at],
                weight: 1.0,
            }));
        }
        (example.positions, example.spans) = packed_spans(&lengths);
        example
    }

    fn fingerprint(&self) -> String {
        format!("arithmetic-v1:{:x}x{}", self.seed, self.row_tokens)
    }

    fn row_tokens(&self) -> usize {
        self.row_tokens
    }
}

/// Appends a document and returns the place in it where its answer begins.
fn write_document(chance: &mut SplitMix64, ids: &mut Vec<u32>) -> usize {
    let start = ids.len();
    if chance.next() & 1 == 0 {
        let (a, b) = (operand(chance), operand(chance));
        write_number(a, ids);
        ids.push(PLUS);
        write_number(b, ids);
        ids.push(EQUALS);
        let question = ids.len() - start;
        write_number(a + b, ids);
        ids.push(END);
        return question;
    }
    ids.push(COPY);
    for _ in 0..2 + chance.next() % (MAX_LETTERS - 1) {
        ids.push(LETTERS + (chance.next() % u64::from(VOCABULARY - LETTERS)) as u32);
    }
    let text = start + 1..ids.len();
    ids.push(EQUALS);
    let question = ids.len() - start;
    ids.extend_from_within(text);
    ids.push(END);
    question
}

/// A number of 1 to 8 digits, each length as likely as the others.
fn operand(chance: &mut SplitMix64) -> u64 {
    let digits = 1 + chance.next() % MAX_DIGITS;
    chance.next() % 10u64.pow(digits as u32)
}

fn write_number(mut number: u64, ids: &mut Vec<u32>) {
    loop {
        ids.push((number % u64::from(DIGITS)) as u32);
        number /= u64::from(DIGITS);
        if number == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documents of a row that are whole, as text.
    fn documents(example: &Example) -> Vec<String> {
        let sign = |id: &u32| match *id {
            PLUS => '+',
            EQUALS => '=',
            END => '.',
            COPY => '>',
            id if id < DIGITS => char::from(b'0' + id as u8),
            id => char::from(b'a' + (id - LETTERS) as u8),
        };
        let text: String = example.ids.iter().map(sign).collect();
        let whole = text.rfind('.').map_or(0, |end| end + 1);
        text[..whole]
            .split_terminator('.')
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn answers_are_right_and_the_only_targets() {
        let data = Arithmetic::training(256);
        let number =
            |text: &str| -> u64 { text.chars().rev().collect::<String>().parse().unwrap() };
        let (mut sums, mut copies) = (0, 0);
        for index in 0..20 {
            let example = data.example(index);
            assert_eq!(example.ids.len(), 256);
            assert!(example.ids.iter().all(|&id| id < VOCABULARY));
            let documents = documents(&example);
            let mut answers = 0;
            for document in &documents {
                let (question, answer) = document.split_once('=').expect("a question");
                answers += answer.len() + 1;
                if let Some(text) = question.strip_prefix('>') {
                    assert_eq!(text, answer);
                    copies += 1;
                } else {
                    let (a, b) = question.split_once('+').expect("a sum");
                    assert_eq!(number(a) + number(b), number(answer), "{document}");
                    sums += 1;
                }
            }
            // The row may end within a document, which has targets of its own.
            assert!((answers..answers + 20).contains(&example.targets.len()));
            for target in &example.targets {
                assert_eq!(example.ids[target.row as usize + 1], target.id);
            }
        }
        assert!(sums > 50 && copies > 50, "{sums} {copies}");
    }

    #[test]
    fn rows_differ_and_are_functions_of_their_index() {
        let (training, held_out) = (Arithmetic::training(64), Arithmetic::held_out(64));
        assert_eq!(training.example(7).ids, training.example(7).ids);
        assert_ne!(training.example(7).ids, training.example(8).ids);
        assert_ne!(training.example(7).ids, held_out.example(7).ids);
        assert_ne!(training.fingerprint(), held_out.fingerprint());
    }
}
