//! Whatever is stored, removed, pruned and killed in whatever order: what is listed is whole.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::unreliable::Plan;
use super::*;

#[derive(Clone, Debug)]
enum Action {
    Put { name: u8, seed: u8 },
    Remove { name: u8 },
    Prune { keep: NonZeroUsize },
    Sweep,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        5 => (0..4_u8, 0..2_u8).prop_map(|(name, seed)| Action::Put { name, seed }),
        2 => (0..4_u8).prop_map(|name| Action::Remove { name }),
        1 => (1..4_usize).prop_map(|keep| Action::Prune {
            keep: NonZeroUsize::new(keep).expect("not zero"),
        }),
        1 => Just(Action::Sweep),
    ]
}

/// What the store has to hold: seeds of the contents, by name.
type Model = BTreeMap<String, u8>;

fn name_of(name: u8) -> String {
    format!("step-{name}")
}

/// What an action makes of a store, if it is not killed.
fn expected(before: &Model, action: &Action) -> Model {
    let mut after = before.clone();
    match action {
        Action::Put { name, seed } => {
            after.entry(name_of(*name)).or_insert(*seed);
        }
        Action::Remove { name } => {
            after.remove(&name_of(*name));
        }
        Action::Prune { keep } => {
            while after.len() > keep.get() {
                after.pop_first();
            }
        }
        Action::Sweep => {}
    }
    after
}

/// Does it; an error that is no failure of the store is the answer that the model expects.
fn perform(store: &Store, before: &Model, action: &Action) -> Result<(), Error> {
    match action {
        Action::Put { name, seed } => {
            let name = name_of(*name);
            let is_conflict = before.get(&name).is_some_and(|other| other != seed);
            match put(store, &name, &checkpoint(*seed)) {
                Err(Error::Conflict(_)) if is_conflict => Ok(()),
                Ok(_) if is_conflict => panic!("{name} was overwritten"),
                done => done.map(|_| ()),
            }
        }
        Action::Remove { name } => match store.remove(&name_of(*name)) {
            Err(Error::Unknown(name)) if !before.contains_key(&name) => Ok(()),
            done => done,
        },
        Action::Prune { keep } => store.prune(*keep).map(|_| ()),
        Action::Sweep => store.sweep().map(|_| ()),
    }
}

/// What the store holds; all of it has to be whole.
fn held(store: &Store) -> Model {
    let versions = store.versions().expect("a listing");
    assert_eq!(store.newest().expect("a listing").as_ref(), versions.last());
    let seed_of = |version: &Version| {
        let files = fetch(store, version).expect("whole");
        (0..2)
            .find(|seed| checkpoint(*seed) == files)
            .expect("a folder that was stored")
    };
    versions
        .iter()
        .map(|version| (version.name.clone(), seed_of(version)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_listed_is_whole(
        actions in proptest::collection::vec((action(), proptest::option::of(0..20_u64)), 1..15)
    ) {
        let (faults, store) = unreliable();
        let mut model = Model::new();
        for (action, killed_at) in actions {
            faults.set(killed_at.map_or(Plan::Healthy, Plan::From));
            let done = perform(&store, &model, &action);
            faults.set(Plan::Healthy);
            let after = expected(&model, &action);
            let found = held(&store);
            match done {
                Ok(()) => prop_assert_eq!(&found, &after),
                Err(error) => {
                    prop_assert!(error.is_passing() && killed_at.is_some(), "{error}");
                    // Each name is as it was before or as it was to be.
                    for name in (0..4).map(name_of) {
                        let is = found.get(&name);
                        prop_assert!(is == model.get(&name) || is == after.get(&name));
                    }
                }
            }
            model = found;
        }
    }
}
