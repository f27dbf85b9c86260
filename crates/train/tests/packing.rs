//! Whatever is packed stands in exactly one row, whole, and rows are full.

use std::collections::BTreeMap;

use cwm_train::packed::{Documents, Packed, Piece};
use cwm_train::{Dataset, Example};
use proptest::prelude::*;

/// Documents of units of these lengths behind a context; unit `u` of document `d` is `1000 * d + u`, repeated.
#[derive(Clone, Debug)]
struct Toy(Vec<Document>);

#[derive(Clone, Debug)]
struct Document {
    context: usize,
    units: Vec<usize>,
    /// Whether the document can be taken up at odd units, and how many tokens tell it where it is.
    odd: bool,
    opening: usize,
}

const CONTEXT: u32 = 1_000_000;
const OPENING: u32 = 1_000_001;

fn name(document: usize, unit: usize) -> u32 {
    (1000 * document + unit) as u32
}

impl Documents for Toy {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn units(&self, document: usize) -> usize {
        self.0[document].units.len()
    }

    fn context(&self, document: usize) -> usize {
        self.0[document].context
    }

    fn tokens_before(&self, document: usize, unit: usize) -> usize {
        self.0[document].units[..unit].iter().sum()
    }

    fn may_begin(&self, document: usize, unit: usize) -> bool {
        unit.is_multiple_of(2) || self.0[document].odd
    }

    fn opening(&self, document: usize, _: usize) -> Vec<u32> {
        vec![OPENING; self.0[document].opening]
    }

    fn example(&self, piece: &Piece) -> Example {
        let document = piece.document as usize;
        let mut ids = vec![CONTEXT; self.0[document].context];
        ids.extend(&piece.opening);
        let given = ids.len() as u32;
        for unit in piece.units.start as usize..piece.units.end as usize {
            ids.extend(vec![name(document, unit); self.0[document].units[unit]]);
        }
        let mut example = Example::causal(ids);
        example.targets.retain(|target| target.row + 1 >= given);
        example.kinds = vec![(document % 3) as u8; example.targets.len()];
        example.frames = vec![example.targets.len() as u32 / 2];
        example
    }

    fn kinds(&self) -> Vec<String> {
        ["a", "b", "c"].map(str::to_owned).to_vec()
    }

    fn fingerprint(&self) -> String {
        String::new()
    }
}

fn documents() -> impl Strategy<Value = Toy> {
    let document = (
        1..30usize,
        prop::collection::vec(1..20usize, 1..60),
        any::<bool>(),
        0..9usize,
    );
    let document = document.prop_map(|(context, units, odd, opening)| Document {
        context,
        units,
        odd,
        opening,
    });
    prop::collection::vec(document, 0..40).prop_map(Toy)
}

/// Checks one packing, and gives the share of positions used.
fn check(toy: &Toy, row_tokens: usize) -> f64 {
    let packed = Packed::new(Box::new(toy.clone()), row_tokens, BTreeMap::new());
    let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
    let mut tokens = 0;
    for index in 0..packed.len() {
        let row = packed.example(index);
        assert!(!row.ids.is_empty() && row.ids.len() <= row_tokens);
        tokens += row.ids.len() as u64;
        // A unit lies in one piece: its tokens stand side by side and count on.
        let mut starts = row.spans.iter().map(|span| span.start).collect::<Vec<_>>();
        starts.dedup();
        assert_eq!(starts.len(), packed.pieces(index).len());
        for (at, (span, position)) in row.spans.iter().zip(&row.positions).enumerate() {
            assert_eq!(at as u32 - span.start, *position, "positions begin again");
        }
        for &id in row.ids.iter().filter(|&&id| id < CONTEXT) {
            *seen.entry(id).or_default() += 1;
        }
        assert_eq!(row.kinds.len(), row.targets.len());
        for (target, &kind) in row.targets.iter().zip(&row.kinds) {
            assert_eq!(
                row.ids[target.row as usize + 1],
                target.id,
                "targets were shifted"
            );
            if target.id < CONTEXT {
                assert_eq!(target.id / 1000 % 3, u32::from(kind), "kinds go along");
            }
        }
        assert!(row.frames.is_sorted());
    }
    let mut dropped = 0;
    for (document, lengths) in toy.0.iter().enumerate() {
        for (unit, &length) in lengths.units.iter().enumerate() {
            match seen.remove(&name(document, unit)) {
                Some(found) => assert_eq!(found, length, "no unit is cut or repeated"),
                None => dropped += 1,
            }
        }
    }
    assert!(seen.is_empty());
    let stats = packed.stats();
    assert_eq!((stats.rows, stats.tokens), (packed.len(), tokens));
    assert_eq!(stats.dropped.values().sum::<u64>(), dropped);
    let again = Packed::new(Box::new(toy.clone()), row_tokens, BTreeMap::new());
    assert!((0..packed.len()).all(|row| packed.pieces(row) == again.pieces(row)));
    stats.used
}

proptest! {
    #[test]
    fn every_unit_stands_in_one_row(toy in documents(), row_tokens in 20..200usize) {
        check(&toy, row_tokens);
    }

    #[test]
    fn what_fits_is_not_dropped(toy in documents()) {
        let packed = Packed::new(Box::new(toy), 80, BTreeMap::new());
        prop_assert!(packed.stats().dropped.is_empty());
    }
}

#[test]
fn rows_are_full() {
    // Lengths of a heavy tail, by a multiplicative generator.
    let mut state = 1u64;
    let mut draw = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % below) as usize
    };
    let toy = Toy((0..400)
        .map(|_| Document {
            context: 60 + draw(200),
            units: (0..1 + draw(8) * draw(8)).map(|_| 10 + draw(60)).collect(),
            odd: true,
            opening: 0,
        })
        .collect());
    for row_tokens in [1024, 2048, 8192] {
        let used = check(&toy, row_tokens);
        assert!(used > 0.97, "{used} at {row_tokens}");
    }
}
