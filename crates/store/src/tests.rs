//! The promises of the crate, on a local folder and in memory, with a network that fails at any point.

mod failures;
mod property;
mod unreliable;
mod versions;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use tempfile::TempDir;

use crate::tests::unreliable::{Faults, Unreliable};
use crate::{Error, Progress, Retry, Store, Stored, Version};

/// Size from which a file of a test is sent in parts: small, so that files are too.
const PART: u64 = 64;

/// Files by path.
type Files = Vec<(String, Vec<u8>)>;

fn files(of: &[(&str, &[u8])]) -> Files {
    of.iter()
        .map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec()))
        .collect()
}

/// A checkpoint as small as they get: an empty file, a nested one, one of several parts.
fn checkpoint(seed: u8) -> Files {
    let large: Vec<u8> = (0..300_u32)
        .map(|i| (i as u8).wrapping_mul(seed | 1))
        .collect();
    files(&[
        ("config.json", &[seed; 20]),
        ("empty", b""),
        ("parts/a/model.safetensors", &large),
    ])
}

fn write(folder: &Path, files: &Files) {
    for (path, bytes) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("below a folder")).expect("disk");
        fs::write(path, bytes).expect("disk");
    }
}

/// All files below a folder, sorted.
fn read(folder: &Path) -> Files {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_str()
            .expect("UTF-8")
            .to_owned();
        if path.is_dir() {
            let below = read(&path).into_iter();
            found.extend(below.map(|(path, bytes)| (format!("{name}/{path}"), bytes)));
        } else {
            found.push((name, fs::read(&path).expect("a file")));
        }
    }
    found.sort();
    found
}

fn quiet(_: Progress) {}

fn put(store: &Store, name: &str, files: &Files) -> Result<Stored, Error> {
    let folder = tempfile::tempdir().expect("disk");
    write(folder.path(), files);
    store.put_folder(name, folder.path(), &mut quiet)
}

/// Fetches into a new folder and reads it; nothing else may be left in there.
fn fetch(store: &Store, version: &Version) -> Result<Files, Error> {
    let folder = tempfile::tempdir().expect("disk");
    let target = folder.path().join("fetched");
    let fetched = store.fetch(version, &target, &mut quiet);
    let left: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(left.len(), usize::from(fetched.is_ok()), "{left:?}");
    fetched.map(|()| read(&target))
}

fn names(store: &Store) -> Vec<String> {
    let versions = store.versions().expect("a listing");
    versions.into_iter().map(|version| version.name).collect()
}

/// Keys of all objects, in order.
fn keys(store: &Store) -> Vec<String> {
    let objects = store
        .block_on(store.objects(&store.root))
        .expect("a listing");
    objects.keys().map(ToString::to_string).collect()
}

fn small_parts(mut store: Store) -> Store {
    store.part = PART;
    store.with_retry(Retry {
        attempts: 1,
        first_wait: Duration::ZERO,
        limit: Duration::from_secs(60),
    })
}

fn local() -> (TempDir, Store) {
    let folder = tempfile::tempdir().expect("disk");
    let store = Store::open(folder.path().to_str().expect("UTF-8")).expect("a store");
    (folder, small_parts(store))
}

/// A store in memory whose operations fail on demand.
fn unreliable() -> (Arc<Faults>, Store) {
    let faults = Arc::new(Faults::default());
    let client = Unreliable::new(InMemory::new(), faults.clone());
    let store = Store::over(Arc::new(client), "unreliable").expect("a store");
    (faults, small_parts(store))
}

/// Runs a test on both kinds of store.
fn on_each(test: impl Fn(&Store)) {
    let (_folder, store) = local();
    test(&store);
    test(&small_parts(Store::in_memory().expect("a store")));
}
