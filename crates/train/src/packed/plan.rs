//! Which parts of which documents go into which row.
//!
//! Rows are filled one after the other, each time with the longest document that still fits; this is first fit
//! decreasing, whose rows come out one by one because no document is looked at twice. What would leave a gap is
//! compared with the parts of longer documents that end where the row does: among a few dozen of them one
//! nearly always ends within a few tokens.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{Documents, Piece};

/// Documents that are looked at before one is cut: the longest, and as many of those just too long.
const CANDIDATES: usize = 32;
/// A row counts as full when no more than this part of it is empty.
const FULL: usize = 128;
/// A part cut to fill a row has at least this part of its context's tokens beside the context, or the
/// row would be filled with repetition.
const WORTH: usize = 4;
/// How far back from where a row ends a place to cut is looked for.
const BACK: usize = 256;

/// The rows of a set of documents.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Parts of documents, row after row.
    pub(super) pieces: Vec<Piece>,
    /// Which of `pieces` are in each row.
    pub(super) rows: Vec<Range<usize>>,
    /// Tokens of all rows.
    pub(super) tokens: u64,
    /// Units that are in no row: alone, with context and opening, they are longer than one, or there is no place to
    /// cut behind them.
    pub(super) dropped: usize,
}

/// Packs all documents into rows of at most `row_tokens`.
pub(super) fn fill(documents: &dyn Documents, row_tokens: usize) -> Plan {
    let mut pool = Pool {
        documents,
        row_tokens,
        items: Vec::new(),
        by_length: BTreeSet::new(),
        dropped: 0,
    };
    for document in 0..documents.len() {
        pool.add(document, 0);
    }
    let mut plan = Plan::default();
    while !pool.by_length.is_empty() {
        let first = plan.pieces.len();
        let mut free = row_tokens;
        while let Some((piece, tokens)) = pool.take(free) {
            plan.pieces.push(piece);
            plan.tokens += tokens as u64;
            free -= tokens;
        }
        if first < plan.pieces.len() {
            plan.rows.push(first..plan.pieces.len());
        }
    }
    plan.dropped = pool.dropped;
    plan
}

/// What is left of a document.
#[derive(Debug)]
struct Rest {
    document: usize,
    /// The first unit that is left.
    start: usize,
    opening: Vec<u32>,
}

/// A part that ends before `end`.
#[derive(Clone, Copy, Debug)]
struct Cut {
    item: usize,
    end: usize,
    tokens: usize,
}

struct Pool<'a> {
    documents: &'a dyn Documents,
    row_tokens: usize,
    items: Vec<Rest>,
    /// Tokens of all that is left of each item, and the item.
    by_length: BTreeSet<(usize, usize)>,
    dropped: usize,
}

impl Pool<'_> {
    /// Puts back what is left of a document from a unit on, without the units that fit into no row.
    fn add(&mut self, document: usize, mut start: usize) {
        let documents = self.documents;
        let units = documents.units(document);
        while start < units {
            let rest = Rest {
                document,
                start,
                opening: match start {
                    0 => Vec::new(),
                    _ => documents.opening(document, start),
                },
            };
            let length = self.fixed(&rest) + self.tokens(&rest, units);
            let item = self.items.len();
            self.items.push(rest);
            if length <= self.row_tokens || self.cut(item, self.row_tokens).is_some() {
                self.by_length.insert((length, item));
                return;
            }
            self.items.pop();
            let next = (start + 1..units).find(|&unit| documents.may_begin(document, unit));
            let next = next.unwrap_or(units);
            self.dropped += next - start;
            start = next;
        }
    }

    /// A part that fits into `free` tokens, with its length.
    fn take(&mut self, free: usize) -> Option<(Piece, usize)> {
        let whole = self.by_length.range(..=(free, usize::MAX)).next_back();
        let whole = whole.copied();
        let gap = |tokens: usize| free - tokens;
        let full = self.row_tokens / FULL;
        let (longest, _) = *self.by_length.last()?;
        let first = free == self.row_tokens;
        // What is longer than a row comes first, like everything long.
        if !(first && longest > free)
            && let Some((length, item)) = whole
            && (gap(length) <= full || longest <= free)
        {
            return Some(self.take_whole(length, item));
        }
        let cut = self.best_cut(free, first);
        match (whole, cut) {
            (Some((length, item)), cut)
                if !first
                    && cut.is_none_or(|cut| gap(cut.tokens) > full && cut.tokens <= length) =>
            {
                Some(self.take_whole(length, item))
            }
            (whole, None) => whole.map(|(length, item)| self.take_whole(length, item)),
            (_, Some(cut)) => Some(self.take_part(cut)),
        }
    }

    fn take_whole(&mut self, length: usize, item: usize) -> (Piece, usize) {
        self.by_length.remove(&(length, item));
        let units = self.documents.units(self.items[item].document);
        (self.piece(item, units), length)
    }

    fn take_part(&mut self, cut: Cut) -> (Piece, usize) {
        let Rest { document, .. } = self.items[cut.item];
        let units = self.documents.units(document);
        let rest = &self.items[cut.item];
        let length = self.fixed(rest) + self.tokens(rest, units);
        self.by_length.remove(&(length, cut.item));
        let piece = self.piece(cut.item, cut.end);
        self.add(document, cut.end);
        (piece, cut.tokens)
    }

    fn piece(&mut self, item: usize, end: usize) -> Piece {
        let rest = &mut self.items[item];
        Piece {
            document: rest.document as u32,
            units: rest.start as u32..end as u32,
            opening: std::mem::take(&mut rest.opening).into(),
        }
    }

    /// The part of a longer document that leaves the smallest gap. A row that begins with it takes it for granted
    /// that the context is there; a row that ends with it wants it to be worth its context.
    fn best_cut(&self, free: usize, first: bool) -> Option<Cut> {
        let longer = || self.by_length.range((free + 1, 0)..);
        let longest = longer().rev().take(CANDIDATES);
        let nearest = longer().take(if first { 0 } else { CANDIDATES });
        let cuts = longest.chain(nearest).filter_map(|&(_, item)| {
            let cut = self.cut(item, free)?;
            let fixed = self.fixed(&self.items[item]);
            (first || (cut.tokens - fixed) * WORTH >= fixed).then_some(cut)
        });
        cuts.max_by_key(|cut| (cut.tokens, std::cmp::Reverse(cut.item)))
    }

    /// The longest part of what is left of a document that fits into `free` tokens.
    fn cut(&self, item: usize, free: usize) -> Option<Cut> {
        let rest = &self.items[item];
        let units = self.documents.units(rest.document);
        let fixed = self.fixed(rest);
        let room = free.checked_sub(fixed)?;
        let (mut fits, mut over) = (rest.start, units + 1);
        while fits + 1 < over {
            let middle = fits.midpoint(over);
            match self.tokens(rest, middle) <= room {
                true => fits = middle,
                false => over = middle,
            }
        }
        let ends = (rest.start + 1..=fits).rev().take(BACK);
        let may_end = |&end: &usize| end == units || self.documents.may_begin(rest.document, end);
        let end = ends.clone().find(may_end)?;
        let tokens = fixed + self.tokens(rest, end);
        Some(Cut { item, end, tokens })
    }

    /// Tokens of the units from the first that is left to `end`.
    fn tokens(&self, rest: &Rest, end: usize) -> usize {
        let before = |unit| self.documents.tokens_before(rest.document, unit);
        before(end) - before(rest.start)
    }

    fn fixed(&self, rest: &Rest) -> usize {
        self.documents.context(rest.document) + rest.opening.len()
    }
}
