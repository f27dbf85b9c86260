//! Pages of both groups: shared, copied, let go, counted.

use cwm_kernels::AttentionShape;

use super::*;

const HEADS: AttentionShape = AttentionShape {
    n_heads: 1,
    n_kv_heads: 1,
    head_dim: 3,
};

/// Layers of both kinds, in an order that tells a layer from its number within its group.
fn cache(window: usize, slack: Option<usize>) -> Cache {
    let group = |n_layers| PageShape {
        n_layers,
        heads: HEADS,
        format: KvFormat::F32,
    };
    let shape = CacheShape {
        layers: vec![Place::Local(0), Place::Global(0), Place::Local(1)],
        global: group(1),
        local: group(2),
        window,
        slack,
    };
    Cache::new(Arc::new(shape), &Arc::default(), None)
}

/// The row a test stores for a token at a position.
fn row(layer: usize, position: usize, id: u32, offset: f32) -> [f32; 3] {
    [layer as f32 + offset, position as f32, id as f32]
}

fn push(cache: &mut Cache, ids: &[u32]) {
    cache.reserve(ids).expect("pages that are here");
    for (position, &id) in (cache.len()..).zip(ids) {
        for layer in 0..cache.shape.layers.len() {
            let (key, value) = (row(layer, position, id, 0.0), row(layer, position, id, 0.5));
            cache.write(layer, position, &key, &value);
        }
    }
    cache.commit(ids.len());
}

/// Asserts that the cache holds exactly `ids`, reading rows back through `visible`: those from
/// `first` on in global layers, in local ones those that the next token sees.
fn check(cache: &Cache, ids: &[u32], first: usize) {
    assert_eq!(cache.ids(), ids);
    for (layer, place) in cache.shape.layers.iter().enumerate() {
        let first = match place {
            Place::Global(_) => first,
            Place::Local(_) => first.max(cache.shape.window_start(ids.len())),
        };
        if first == ids.len() {
            continue;
        }
        let mut pages = Vec::new();
        let first_page = cache.visible(layer, ids.len()..ids.len(), &mut pages);
        for position in first..ids.len() {
            let (mut key, mut value) = ([0.0; 3], [0.0; 3]);
            let page = pages[position / PAGE - first_page];
            page.read(HEADS, position % PAGE, &mut key, &mut value);
            assert_eq!(
                key,
                row(layer, position, ids[position], 0.0),
                "layer {layer}"
            );
            assert_eq!(
                value,
                row(layer, position, ids[position], 0.5),
                "layer {layer}"
            );
        }
    }
}

#[test]
fn a_fork_shares_pages_until_one_side_writes() {
    let ids: Vec<u32> = (0..150).collect();
    let mut parent = cache(200, None);
    push(&mut parent, &ids);
    assert_eq!((parent.n_pages(), parent.n_shared_pages()), (6, 0));

    let mut child = parent.clone();
    assert_eq!((child.n_pages(), child.n_shared_pages()), (6, 6));

    push(&mut child, &[900]);
    assert_eq!(child.n_shared_pages(), 4, "only the tail pages were copied");
    push(&mut parent, &[800, 801]);
    check(&child, &[&ids[..], &[900]].concat(), 0);
    check(&parent, &[&ids[..], &[800, 801]].concat(), 70);
}

#[test]
fn rollback_drops_whole_pages_and_later_writes_do_not_reach_the_fork() {
    let ids: Vec<u32> = (0..130).collect();
    let mut parent = cache(200, None);
    push(&mut parent, &ids);
    let child = parent.clone();
    parent.truncate(60);
    assert_eq!((parent.len(), parent.n_pages()), (60, 2));
    push(&mut parent, &[7; 10]);
    check(&parent, &[&ids[..60], &[7; 10]].concat(), 5);
    check(&child, &ids, 0);
    assert_eq!(parent.id(69), Some(7));
    assert_eq!(parent.id(70), None);
}

#[test]
fn uncommitted_rows_are_forgotten() {
    let mut cache = cache(200, None);
    push(&mut cache, &[1, 2]);
    cache.reserve(&[3; 100]).expect("pages that are here");
    assert_eq!((cache.len(), cache.id(2)), (2, None));
    push(&mut cache, &[4]);
    check(&cache, &[1, 2, 4], 0);
    assert_eq!(cache.n_pages(), 2);
}

#[test]
fn fork_at_a_page_boundary_takes_no_further_page() {
    let mut cache = cache(200, None);
    push(&mut cache, &[5; 128]);
    assert_eq!(cache.fork_at(64).n_pages(), 2);
    assert_eq!(cache.fork_at(65).n_pages(), 4);
    assert_eq!(cache.fork_at(0).n_pages(), 0);
    assert_eq!(cache.fork_at(999).len(), 128);
}

/// For windows below, at and above a page, token by token: what is kept serves the next token
/// and every rollback within the slack, and no page more is kept than that takes.
#[test]
fn local_pages_go_when_nobody_can_need_them() {
    let ids: Vec<u32> = (0..400).collect();
    for window in [1, 5, 64, 65, 150] {
        for slack in [0, 1, 40, 200] {
            let mut cache = cache(window, Some(slack));
            for len in 1..=ids.len() {
                push(&mut cache, &ids[len - 1..len]);
                check(&cache, &ids[..len], len - 1);
                let needed = (len + 1).saturating_sub(window + slack);
                let expected = len.div_ceil(PAGE) - needed / PAGE;
                let kept = cache.local.n_pages();
                assert_eq!(kept, expected, "{window} {slack} {len}");
                assert!(cache.exact_from() <= len.saturating_sub(slack));
            }
            assert_eq!(cache.global.n_pages(), 7);
            let least = cache.exact_from();
            for to in (least.max(1)..=400).rev() {
                cache.truncate(to);
                check(&cache, &ids[..to], to - 1);
                let mut other = cache.clone();
                push(&mut other, &[999; 3]);
                check(&other, &[&ids[..to], &[999; 3]].concat(), to);
            }
            cache.truncate(0);
            assert_eq!((cache.n_pages(), cache.exact_from()), (0, 0));
            push(&mut cache, &ids[..70]);
            check(&cache, &ids[..70], 0);
        }
    }
}

#[test]
fn the_ledger_counts_a_shared_page_once() {
    let ledger = Arc::default();
    let shape = Arc::clone(&cache(5, Some(0)).shape);
    let page = (shape.global.bytes(), shape.local.bytes());
    assert_eq!(page, (64 * 3 * 2 * 4, 64 * 3 * 2 * 4 * 2));
    let mut parent = Cache::new(shape, &ledger, None);
    push(&mut parent, &[1; 100]);
    assert_eq!(parent.bytes(), 2 * page.0 + page.1);
    assert_eq!(ledger.held(), parent.bytes());
    let mut child = parent.clone();
    assert_eq!(ledger.held(), parent.bytes());
    push(&mut child, &[2]);
    assert_eq!(ledger.held(), parent.bytes() + page.0 + page.1);
    drop(parent);
    assert_eq!(ledger.held(), child.bytes());
    child.truncate(0);
    assert_eq!(ledger.held(), 0);
}
