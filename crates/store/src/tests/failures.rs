//! Kills, lost answers, damaged objects and two writers of one name.

use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutPayload};

use super::unreliable::Plan;
use super::*;

/// Operations that storing `checkpoint(2)` takes in a store that has another version.
fn operations_of_a_put() -> u64 {
    let (faults, store) = unreliable();
    put(&store, "step-1", &checkpoint(1)).expect("stored");
    faults.set(Plan::Healthy);
    put(&store, "step-2", &checkpoint(2)).expect("stored");
    faults.count()
}

#[test]
fn killed_anywhere_an_upload_is_no_version_and_goes_on() {
    let operations = operations_of_a_put();
    assert!(operations > 10, "{operations}");
    let whole = checkpoint(2)
        .iter()
        .map(|(_, bytes)| bytes.len() as u64)
        .sum();
    let mut resumed = 0;
    for killed_at in 0..operations {
        let (faults, store) = unreliable();
        put(&store, "step-1", &checkpoint(1)).expect("stored");
        faults.set(Plan::From(killed_at));
        let error = put(&store, "step-2", &checkpoint(2)).expect_err("killed");
        assert!(error.is_passing(), "{error}");
        faults.set(Plan::Healthy);

        let newest = store.newest().expect("a listing").expect("a version");
        // Only the last operation, which reads `READY` back, comes after it was written.
        let expected = if killed_at + 1 < operations { 1 } else { 2 };
        assert_eq!(newest.name, format!("step-{expected}"));
        assert_eq!(fetch(&store, &newest).expect("whole"), checkpoint(expected));

        let again = put(&store, "step-2", &checkpoint(2)).expect("stored");
        resumed += u64::from(again.sent < whole);
        assert_eq!(fetch(&store, &again.version).expect("whole"), checkpoint(2));
        assert_eq!(names(&store), ["step-1", "step-2"]);
    }
    assert!(
        resumed > 2,
        "{resumed} of {operations} went on with what was there"
    );
}

#[test]
fn passing_errors_are_tried_again() {
    let retry = Retry {
        attempts: 3,
        first_wait: Duration::ZERO,
        limit: Duration::from_secs(60),
    };
    for at in 0..operations_of_a_put() {
        for plan in [Plan::Before(at, at + 1), Plan::After(at, at + 1)] {
            let (faults, store) = unreliable();
            let store = store.with_retry(retry);
            put(&store, "step-1", &checkpoint(1)).expect("stored");
            faults.set(plan);
            let stored = put(&store, "step-2", &checkpoint(2)).expect("stored");
            faults.set(plan);
            let fetched = fetch(&store, &stored.version).expect("whole");
            assert_eq!(fetched, checkpoint(2), "{plan:?}");
        }
    }
}

#[test]
fn trying_again_ends() {
    let (faults, store) = unreliable();
    let retry = Retry {
        attempts: 4,
        first_wait: Duration::ZERO,
        limit: Duration::from_secs(60),
    };
    let store = store.with_retry(retry);
    faults.set(Plan::From(0));
    let error = store.versions().expect_err("no connection");
    assert!(
        error.to_string().contains("the connection is lost"),
        "{error}"
    );
    assert_eq!(faults.count(), 4);

    let store = store.with_retry(Retry {
        limit: Duration::ZERO,
        ..retry
    });
    faults.set(Plan::From(0));
    store.versions().expect_err("no connection");
    assert_eq!(faults.count(), 1);
}

#[test]
fn errors_that_stay_are_not_tried_again() {
    let (faults, store) = unreliable();
    let store = store.with_retry(Retry::default());
    store.version("a").expect_err("nothing there");
    assert_eq!(faults.count(), 1);
}

/// Overwrites or removes an object behind the store's back.
fn tamper(store: &Store, key: &str, contents: Option<&[u8]>) {
    let key = Key::parse(key).expect("a key");
    let done = match contents {
        Some(bytes) => {
            let payload = PutPayload::from(bytes.to_vec());
            store.block_on(async { store.client.put(&key, payload).await.map(|_| ()) })
        }
        None => store.block_on(store.client.delete(&key)),
    };
    done.expect("done");
}

#[test]
fn damaged_objects_are_named_and_nothing_is_left() {
    on_each(|store| {
        put(store, "a", &checkpoint(1)).expect("stored");
        let version = put(store, "b", &checkpoint(2)).expect("stored").version;
        for file in &version.files {
            let key = format!("b/{}/{}", version.content, file.path);
            let bytes = checkpoint(2)
                .into_iter()
                .find(|(path, _)| *path == file.path);
            let bytes = bytes.expect("a file").1;
            let mut flipped = bytes.clone();
            flipped.last_mut().into_iter().for_each(|byte| *byte ^= 1);
            let longer = [&bytes[..], b"x"].concat();
            let damages = [
                (None, "not there"),
                (Some(longer), "bytes of"),
                (Some(flipped), "SHA-256"),
            ];
            for (damage, reason) in damages {
                if damage.as_ref() == Some(&bytes) {
                    continue;
                }
                tamper(store, &key, damage.as_deref());
                let error = fetch(store, &version).expect_err("damaged").to_string();
                assert!(error.contains(&key) && error.contains(reason), "{error}");
            }
            // What is missing or has another size is sent again; the other is a matter of `remove`.
            tamper(store, &key, None);
            let again = put(store, "b", &checkpoint(2)).expect("stored");
            assert_eq!(again.sent, file.bytes);
            assert_eq!(fetch(store, &version).expect("whole"), checkpoint(2));
        }
    });
}

#[test]
fn a_damaged_ready_hides_its_version_only() {
    on_each(|store| {
        put(store, "a", &checkpoint(1)).expect("stored");
        put(store, "b", &checkpoint(2)).expect("stored");
        tamper(store, "b/READY", Some(b"{}"));
        let listing = store.listing().expect("a listing");
        assert_eq!(listing.versions.len(), 1);
        assert_eq!(listing.damaged[0].0, "b");
        let error = put(store, "b", &checkpoint(2))
            .expect_err("damaged")
            .to_string();
        assert!(error.contains("`b/READY`"), "{error}");
        store.remove("b").expect("removed");
        put(store, "b", &checkpoint(2)).expect("stored");
        assert_eq!(names(store), ["a", "b"]);
    });
}

/// Objects of an upload that was killed before `READY`.
fn begin(store: &Store, name: &str, files: &Files) {
    put(store, name, files).expect("stored");
    tamper(store, &format!("{name}/READY"), None);
}

#[test]
fn leftovers_before_the_newest_version_are_swept() {
    on_each(|store| {
        begin(store, "step-1", &checkpoint(1));
        begin(store, "step-3", &checkpoint(3));
        assert_eq!(store.sweep().expect("swept"), Default::default());
        assert_eq!(
            store.listing().expect("a listing").unfinished,
            ["step-1", "step-3"]
        );

        put(store, "step-2", &checkpoint(2)).expect("stored");
        let swept = store.sweep().expect("swept");
        assert_eq!(swept.leftovers, ["step-1"]);
        assert_eq!(store.listing().expect("a listing").unfinished, ["step-3"]);
        assert_eq!(names(store), ["step-2"]);

        // An upload that began after the newest version may still be going on.
        begin(store, "step-0", &checkpoint(1));
        assert_eq!(store.sweep().expect("swept"), Default::default());
    });
}

#[test]
fn of_two_writers_one_wins_and_the_other_is_told() {
    for round in 0..20 {
        let (folder, _) = local();
        let url = folder.path().to_str().expect("UTF-8");
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let writers = [1, 2].map(|seed| {
                scope.spawn(move || {
                    let store = small_parts(Store::open(url).expect("a store"));
                    put(&store, "a", &checkpoint(seed)).map_err(|error| error.to_string())
                })
            });
            writers
                .map(|writer| writer.join().expect("no panic"))
                .into()
        });
        let store = Store::open(url).expect("a store");
        let newest = store.newest().expect("a listing").expect("a version");
        let winner = outcomes.iter().position(Result::is_ok).expect("a winner");
        let fetched = fetch(&store, &newest).expect("whole");
        assert_eq!(fetched, checkpoint(winner as u8 + 1), "round {round}");
        let loser = outcomes[1 - winner].as_ref().expect_err("one winner");
        assert!(loser.contains("other contents"), "{loser}");
        store.sweep().expect("swept");
        assert_eq!(keys(&store).len(), checkpoint(1).len() + 1);
    }
}

#[test]
fn two_writers_of_the_same_both_succeed() {
    let (folder, store) = local();
    let url = folder.path().to_str().expect("UTF-8");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = small_parts(Store::open(url).expect("a store"));
                put(&store, "a", &checkpoint(1)).expect("stored");
            });
        }
    });
    let version = store.version("a").expect("a version");
    assert_eq!(fetch(&store, &version).expect("whole"), checkpoint(1));
}

#[test]
fn a_file_that_changes_meanwhile_is_refused() {
    let (_folder, store) = local();
    for (path, bytes) in [("small", vec![1; 10]), ("large", vec![1; 300])] {
        let folder = tempfile::tempdir().expect("disk");
        write(folder.path(), &files(&[("first", b"1"), (path, &bytes)]));
        let mut change = |_: Progress| {
            fs::write(folder.path().join(path), vec![2; bytes.len()]).expect("disk");
        };
        let error = store.put_folder("a", folder.path(), &mut change);
        let error = error.expect_err("changed").to_string();
        assert!(error.contains("changed while"), "{error}");
        assert_eq!(names(&store), [""; 0]);
        assert!(!keys(&store).iter().any(|key| key.ends_with(path)));
    }
}

#[test]
fn a_version_whose_files_are_removed_meanwhile_does_not_come_to_be() {
    let (place, store) = local();
    let folder = tempfile::tempdir().expect("disk");
    write(folder.path(), &checkpoint(1));
    let mut remove = |progress: Progress| {
        if progress.done == progress.total {
            fs::remove_dir_all(place.path().join("a")).expect("disk");
        }
    };
    let stored = store.put_folder("a", folder.path(), &mut remove);
    assert!(matches!(stored, Err(Error::Removed(_))), "{stored:?}");
    assert_eq!(names(&store), [""; 0]);
    store
        .put_folder("a", folder.path(), &mut quiet)
        .expect("stored");
}
