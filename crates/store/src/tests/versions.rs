//! Keeping, listing, fetching and removing where nothing fails.

use std::num::NonZeroUsize;

use super::*;

fn keep(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).expect("not zero")
}

#[track_caller]
fn assert_message(result: Result<impl std::fmt::Debug, Error>, parts: &[&str]) {
    let message = result.expect_err("an error").to_string();
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn a_folder_comes_back_as_it_was() {
    on_each(|store| {
        assert!(store.newest().expect("a listing").is_none());
        let stored = put(store, "step-000001", &checkpoint(1)).expect("stored");
        assert_eq!(stored.sent, 320);
        let newest = store.newest().expect("a listing").expect("a version");
        assert_eq!(newest, stored.version);
        assert_eq!((newest.bytes(), newest.files.len()), (320, 3));
        assert_eq!(fetch(store, &newest).expect("whole"), checkpoint(1));
    });
}

#[test]
fn odd_names_of_files_come_back() {
    let odd = files(&[
        ("a b/%25#1.txt", b"1"),
        ("é/ü.json", b"2"),
        ("model.safetensors#2", b"3"),
        ("~$[x]{y}^`", b"4"),
    ]);
    on_each(|store| {
        let stored = put(store, "odd", &odd).expect("stored");
        let mut expected = odd.clone();
        expected.sort();
        assert_eq!(fetch(store, &stored.version).expect("whole"), expected);
    });
}

#[test]
fn the_same_again_sends_nothing() {
    on_each(|store| {
        let first = put(store, "a", &checkpoint(1)).expect("stored");
        let again = put(store, "a", &checkpoint(1)).expect("stored");
        assert_eq!((again.sent, again.version), (0, first.version));
    });
}

#[test]
fn other_contents_under_a_name_are_refused_and_leave_nothing() {
    on_each(|store| {
        put(store, "a", &checkpoint(1)).expect("stored");
        let before = keys(store);
        assert_message(put(store, "a", &checkpoint(2)), &["`a`", "other contents"]);
        assert_eq!(keys(store), before);
    });
}

#[test]
fn versions_are_in_order_of_their_numbers() {
    on_each(|store| {
        for name in ["step-1000000", "step-000002", "step-999999"] {
            put(store, name, &checkpoint(1)).expect("stored");
        }
        assert_eq!(names(store), ["step-000002", "step-999999", "step-1000000"]);
        let swept = store.prune(keep(2)).expect("pruned");
        assert_eq!(swept.versions, ["step-000002"]);
        assert_eq!(names(store), ["step-999999", "step-1000000"]);
        assert_eq!(store.prune(keep(2)).expect("pruned"), Default::default());
    });
}

#[test]
fn removing_leaves_nothing_of_a_version_and_all_else() {
    on_each(|store| {
        put(store, "a", &checkpoint(1)).expect("stored");
        let before = keys(store);
        put(store, "b", &checkpoint(1)).expect("stored");
        store.remove("b").expect("removed");
        assert_eq!(keys(store), before);
        assert_message(store.remove("b"), &["no version `b`"]);
        assert_message(store.version("b"), &["no version `b`"]);
    });
}

#[test]
fn files_of_others_are_neither_versions_nor_removed() {
    let (folder, store) = local();
    let others = files(&[
        ("Documents/2024/letter.txt", b"dear"),
        ("Documents/notes.txt", b"bread"),
        ("letter.txt", b"dear"),
    ]);
    write(folder.path(), &others);
    put(&store, "step-000001", &checkpoint(1)).expect("stored");
    put(&store, "step-000002", &checkpoint(2)).expect("stored");
    let listing = store.listing().expect("a listing");
    assert_eq!((listing.unfinished.len(), listing.damaged.len()), (0, 0));
    store.prune(keep(1)).expect("pruned");
    store.remove("step-000002").expect("removed");
    assert_message(store.remove("Documents"), &["no version"]);
    assert_eq!(read(folder.path()), others);
}

#[test]
fn a_target_that_is_there_stays() {
    let (_folder, store) = local();
    let version = put(&store, "a", &checkpoint(1)).expect("stored").version;
    let target = tempfile::tempdir().expect("disk");
    write(target.path(), &files(&[("mine", b"1")]));
    let fetched = store.fetch(&version, target.path(), &mut quiet);
    assert_message(fetched, &["already there"]);
    assert_eq!(read(target.path()), files(&[("mine", b"1")]));
}

#[test]
fn what_a_killed_fetch_left_is_no_hindrance() {
    let (_folder, store) = local();
    let version = put(&store, "a", &checkpoint(1)).expect("stored").version;
    let place = tempfile::tempdir().expect("disk");
    write(&place.path().join(".a.fetching"), &files(&[("half", b"1")]));
    let target = place.path().join("a");
    store.fetch(&version, &target, &mut quiet).expect("fetched");
    assert_eq!(read(&target), checkpoint(1));
    assert!(!place.path().join(".a.fetching").exists());
}

#[test]
fn progress_reaches_the_total() {
    on_each(|store| {
        let folder = tempfile::tempdir().expect("disk");
        write(folder.path(), &checkpoint(1));
        let mut told = Vec::new();
        let stored = store.put_folder("a", folder.path(), &mut |p| told.push(p));
        let version = stored.expect("stored").version;
        assert_eq!(
            told.last(),
            Some(&Progress {
                done: 320,
                total: 320
            })
        );
        assert!(
            told.is_sorted_by_key(|p| p.done) && told.len() > 4,
            "{told:?}"
        );
        told.clear();
        let target = folder.path().join("back");
        store
            .fetch(&version, &target, &mut |p| told.push(p))
            .expect("fetched");
        assert_eq!(
            told.last(),
            Some(&Progress {
                done: 320,
                total: 320
            })
        );
    });
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let (_folder, store) = local();
    let folder = tempfile::tempdir().expect("disk");
    let put = |name: &str| store.put_folder(name, folder.path(), &mut quiet);
    assert_message(put("a"), &["no files"]);
    assert_message(put("a/b"), &["`a/b` cannot be the name"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("elsewhere", folder.path().join("link")).expect("disk");
        assert_message(put("a"), &["link`", "a link"]);
        fs::remove_file(folder.path().join("link")).expect("disk");
        fs::write(folder.path().join("a:b"), "1").expect("disk");
        assert_message(put("a"), &["a:b", "every system"]);
    }
    assert_message(
        store.put_folder("a", &folder.path().join("none"), &mut quiet),
        &["cannot list", "none"],
    );
    assert_eq!(keys(&store), [""; 0]);
}

#[test]
fn a_local_store_is_made_only_on_demand() {
    let folder = tempfile::tempdir().expect("disk");
    let path = folder.path().join("a b/store");
    let url = format!("file://{}", path.display()).replace(' ', "%20");
    assert_message(Store::open(&url), &["no such folder"]);
    assert!(!path.exists());
    let store = Store::create(&url).expect("a store");
    assert_eq!(store.local_folder(), path.canonicalize().ok().as_deref());
    put(&store, "a", &checkpoint(1)).expect("stored");
    assert_eq!(names(&Store::open(&url).expect("a store")), ["a"]);
}

#[cfg(not(feature = "s3"))]
#[test]
fn without_s3_the_message_says_how_to_get_it() {
    assert_message(Store::open("s3://runs/a"), &["--features s3"]);
}
