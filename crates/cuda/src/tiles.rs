//! Which tiles of a row's scores hold anything to see.
//!
//! Attention works on squares of [`TILE`] queries by [`TILE`] keys. From the spans of a row follow the squares
//! that are seen at all, and those that are seen whole, where no mask has to be applied. Packed documents
//! and windows leave most squares out.

use cwm_kernels::Span;

/// Queries, and keys, of a tile.
pub const TILE: usize = 64;

/// For each of some tiles, tiles that go with it: entry `i` has `tiles[first[i]..first[i + 1]]`, in
/// increasing order. A tile is written as twice its index, plus 1 where it needs a mask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TileList {
    /// One more than there are entries.
    pub first: Vec<u32>,
    /// The tiles of all entries.
    pub tiles: Vec<u32>,
}

/// The tiles that a row's spans make visible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tiles {
    /// For each tile of queries, the tiles of keys that it sees.
    pub by_queries: TileList,
    /// For each tile of keys, the tiles of queries that see it.
    pub by_keys: TileList,
}

impl Tiles {
    /// Of a row with these spans, each of which is well formed.
    pub fn new(spans: &[Span]) -> Self {
        let n_tiles = spans.len().div_ceil(TILE);
        let mut by_queries = TileList::default();
        let mut of_keys = vec![Vec::new(); n_tiles];
        // For each tile of keys, how many queries of a tile see some of it, and how many all of it.
        let mut seen = vec![[0u32; 2]; n_tiles];
        for (index, queries) in spans.chunks(TILE).enumerate() {
            by_queries.first.push(by_queries.tiles.len() as u32);
            for (offset, span) in queries.iter().enumerate() {
                mark(&mut seen, span, index * TILE + offset);
            }
            for (tile, counts) in seen.iter_mut().enumerate() {
                let [some, all] = std::mem::take(counts);
                if some > 0 {
                    let needs_mask = u32::from(all as usize != TILE);
                    by_queries.tiles.push(tile as u32 * 2 + needs_mask);
                    of_keys[tile].push(index as u32 * 2 + needs_mask);
                }
            }
        }
        by_queries.first.push(by_queries.tiles.len() as u32);
        Self {
            by_queries,
            by_keys: TileList::of(of_keys),
        }
    }
}

impl TileList {
    fn of(entries: Vec<Vec<u32>>) -> Self {
        let mut first = vec![0];
        let mut tiles = Vec::new();
        for entry in entries {
            tiles.extend(entry);
            first.push(tiles.len() as u32);
        }
        Self { first, tiles }
    }
}

/// Counts query `row` with every tile of keys that it sees some of, and all of.
fn mark(seen: &mut [[u32; 2]], span: &Span, row: usize) {
    let mut last = None;
    for keys in span.ranges(row) {
        if keys.is_empty() {
            continue;
        }
        let tiles = keys.start / TILE..keys.end.div_ceil(TILE);
        for (tile, [some, all]) in tiles.clone().zip(&mut seen[tiles]) {
            let is_whole = keys.start <= tile * TILE && (tile + 1) * TILE <= keys.end;
            // Both ranges may end and begin within one tile.
            *some += u32::from(last != Some(tile));
            *all += u32::from(is_whole);
            last = Some(tile);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By looking at every pair of a query and a key.
    fn by_looking(spans: &[Span]) -> Vec<Vec<(usize, bool)>> {
        let rows = spans.len();
        let sees = |row: usize, key: usize| {
            spans[row]
                .ranges(row)
                .iter()
                .any(|range| range.contains(&key))
        };
        let tile = |index: usize| index * TILE..(index + 1) * TILE;
        (0..rows.div_ceil(TILE))
            .map(|queries| {
                (0..rows.div_ceil(TILE))
                    .filter_map(|keys| {
                        let pairs =
                            || tile(queries).flat_map(|row| tile(keys).map(move |key| (row, key)));
                        let seen = |(row, key)| row < rows && key < rows && sees(row, key);
                        pairs().any(seen).then(|| (keys, !pairs().all(seen)))
                    })
                    .collect()
            })
            .collect()
    }

    fn spans() -> impl Strategy<Value = Vec<Span>> {
        let row = (any::<u16>(), any::<u16>(), any::<u16>(), any::<bool>());
        proptest::collection::vec(row, 1..300).prop_map(|rows| {
            let span = |(row, (a, b, c, is_causal)): (usize, (u16, u16, u16, bool))| {
                if is_causal {
                    return Span::causal_from(u32::from(c) % 90 % (row as u32 + 1));
                }
                let start = u32::from(c) % (row as u32 + 1);
                let prefix_end = u32::from(b) % (start + 1);
                Span {
                    prefix_start: u32::from(a) % (prefix_end + 1),
                    prefix_end,
                    start,
                }
            };
            rows.into_iter().enumerate().map(span).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn tiles_are_those_one_finds_by_looking(spans in spans()) {
            let tiles = Tiles::new(&spans);
            let expected = by_looking(&spans);
            let entries = |list: &TileList| -> Vec<Vec<(usize, bool)>> {
                let entry = |pair: &[u32]| {
                    let tiles = &list.tiles[pair[0] as usize..pair[1] as usize];
                    tiles.iter().map(|tile| (*tile as usize / 2, tile % 2 == 1)).collect()
                };
                list.first.windows(2).map(entry).collect()
            };
            let found = entries(&tiles.by_queries);
            // A tile that only both ranges together cover may be masked in vain, never the other way.
            prop_assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                let indices = |tiles: &[(usize, bool)]| tiles.iter().map(|tile| tile.0).collect::<Vec<_>>();
                prop_assert_eq!(indices(found), indices(expected));
                for (found, expected) in found.iter().zip(expected) {
                    prop_assert!(found.1 || !expected.1);
                }
            }
            let mut turned = vec![Vec::new(); found.len()];
            for (queries, keys) in found.iter().enumerate() {
                for &(key, needs_mask) in keys {
                    turned[key].push((queries, needs_mask));
                }
            }
            prop_assert_eq!(entries(&tiles.by_keys), turned);
        }
    }

    #[test]
    fn causal_tiles_below_the_diagonal_need_no_mask() {
        let tiles = Tiles::new(&vec![Span::causal_from(0); 2 * TILE]);
        assert_eq!(tiles.by_queries.tiles, [1, 0, 3]);
        assert_eq!(tiles.by_queries.first, [0, 1, 3]);
        assert_eq!(tiles.by_keys.tiles, [1, 2, 3]);
        assert_eq!(tiles.by_keys.first, [0, 2, 3]);
    }
}
