//! A cache of packed weights: the same engine with it as without, whatever is in its folder.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Random, bits, config, model, one_pass};
use cwm_engine::{CacheUse, Engine, Error, Options, WeightFormat};
use cwm_model::{Checkpoint, Dtype, Model, WEIGHTS_FILE};
use tempfile::TempDir;

/// A model on disk, and a folder for its cache.
struct World {
    folder: TempDir,
}

impl World {
    fn new(kind: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let world = Self { folder };
        world.save(&model(kind, 5));
        world
    }

    fn save(&self, model: &Model) {
        let saved = model.save(&self.path("model"), Dtype::F32);
        saved.expect("it is saved");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint::open(&self.path("model")).expect("it opens")
    }

    /// Logits without a cache.
    fn packed(&self, format: WeightFormat) -> Vec<u32> {
        logits(&Engine::open(&self.checkpoint(), options(format)).expect("it opens"))
    }

    /// Opens with the cache and makes sure that the engine is the one without.
    #[track_caller]
    fn open(&self, format: WeightFormat) -> CacheUse {
        let (checkpoint, folder) = (self.checkpoint(), self.path("cache"));
        let opened = Engine::open_cached(&checkpoint, options(format), &folder);
        let (engine, used) = opened.expect("the cache never makes it fail");
        assert_eq!(logits(&engine), self.packed(format), "{format}: {used:?}");
        used
    }

    /// Names in the folder of the cache.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("cache")).expect("it is there");
        entries
            .map(|entry| entry.expect("readable").path())
            .collect()
    }
}

fn options(weights: WeightFormat) -> Options {
    Options {
        weights,
        ..Options::default()
    }
}

fn logits(engine: &Engine) -> Vec<u32> {
    let ids = Random(9).ids(12, engine.config().vocab_size);
    bits(&one_pass(engine, &ids))
}

/// The file that was written in place of none.
#[track_caller]
fn written(used: CacheUse) -> PathBuf {
    match used {
        CacheUse::Written {
            path,
            bytes,
            replaced: None,
        } => {
            let len = fs::metadata(&path).expect("it was written").len();
            assert_eq!(len, bytes);
            path
        }
        other => panic!("{other:?}"),
    }
}

/// Why the file that was there was no use.
#[track_caller]
fn replaced(used: CacheUse) -> String {
    match used {
        CacheUse::Written {
            replaced: Some(reason),
            ..
        } => reason,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn unused(used: CacheUse) -> String {
    match used {
        CacheUse::Unused { reason } => reason,
        other => panic!("{other:?}"),
    }
}

fn copy_of(path: &Path) -> Vec<u8> {
    fs::read(path).expect("readable")
}

#[test]
fn the_second_engine_reads_what_the_first_has_packed() {
    // Of the shapes, two have embeddings beside the head, and one has both in one.
    for kind in [0, 1, 2] {
        let world = World::new(kind);
        for format in WeightFormat::ALL {
            let path = written(world.open(format));
            assert_eq!(world.open(format), CacheUse::Read { path });
        }
        assert_eq!(world.files().len(), WeightFormat::ALL.len());
    }
}

#[test]
fn a_model_that_changes_is_packed_anew() {
    let world = World::new(0);
    let format = WeightFormat::Int8;
    let first = written(world.open(format));
    world.save(&model(0, 6));
    let second = written(world.open(format));
    assert_ne!(first, second);

    // Another model, of which nothing but the weights tell that it is.
    let weights = world.path("model").join(WEIGHTS_FILE);
    let modified = fs::metadata(&weights).and_then(|about| about.modified());
    let modified = modified.expect("it is known");
    let set_modified = |time| {
        let file = fs::File::options().write(true).open(&weights);
        let set = file.and_then(|file| file.set_modified(time));
        set.expect("it is ours");
    };
    world.save(&model(0, 7));
    set_modified(modified);
    written(world.open(format));

    set_modified(modified + Duration::from_secs(1));
    let path = written(world.open(format));
    assert_eq!(world.open(format), CacheUse::Read { path });
}

#[test]
fn damage_is_noticed_told_and_mended() {
    let world = World::new(1);
    let format = WeightFormat::Bf16;
    let path = written(world.open(format));
    let good = copy_of(&path);
    let data = good.len() - 64;
    let mut damaged: Vec<Vec<u8>> = [0, 1, 11, 12, 64, 500, data, good.len() - 1]
        .map(|len| good[..len].to_vec())
        .into();
    // Magic, length of the header, header, the first matrix and the last.
    for at in [0, 8, 11, 12, 40, good.len() / 2, data, good.len() - 1] {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        damaged.push(bytes);
    }
    damaged.push([&good[..], &[0]].concat());
    // A shape that fits no memory, in a header as long as it says.
    let text = String::from_utf8_lossy(&good[12..]);
    let n = 12 + text.find("\"n\":").expect("the header names shapes") + 4;
    let mut huge = good.clone();
    huge.splice(n..n, [b'9'; 15]);
    huge[8] += 15;
    damaged.push(huge);
    for (case, bytes) in damaged.iter().enumerate() {
        fs::write(&path, bytes).expect("writable");
        let reason = replaced(world.open(format));
        assert!(reason.contains(".cwmpack` "), "{case}: {reason}");
        assert_eq!(copy_of(&path), good, "{case}: {reason}");
    }
    assert_eq!(world.open(format), CacheUse::Read { path });
    assert_eq!(world.files().len(), 1);
}

#[test]
fn a_file_of_another_model_is_passed_over() {
    let world = World::new(0);
    let format = WeightFormat::F32;
    let first = written(world.open(format));
    world.save(&model(0, 6));
    let second = written(world.open(format));
    fs::copy(&first, &second).expect("writable");
    assert!(replaced(world.open(format)).contains("another model"));
}

#[test]
fn a_cache_that_cannot_be_written_changes_nothing() {
    let world = World::new(0);
    let format = WeightFormat::Int4Group32;
    fs::write(world.path("cache"), "a file, no folder").expect("writable");
    assert!(unused(world.open(format)).contains("cannot write"));
    fs::remove_file(world.path("cache")).expect("it is ours");

    // A folder in the place of the file can be neither read nor replaced.
    let path = written(world.open(format));
    fs::remove_file(&path).expect("it is ours");
    fs::create_dir_all(path.join("taken")).expect("writable");
    let reason = unused(world.open(format));
    assert!(reason.contains("is no file"), "{reason}");
    assert!(reason.contains("cannot write"), "{reason}");
    assert_eq!(world.files(), [path], "the temporary file was removed");
}

#[test]
fn weights_in_memory_are_packed_every_time() {
    let world = World::new(0);
    let bytes = copy_of(&world.path("model").join(WEIGHTS_FILE));
    let checkpoint = Checkpoint::from_safetensors(config(0), bytes).expect("it opens");
    let folder = world.path("cache");
    let opened = Engine::open_cached(&checkpoint, Options::default(), &folder);
    let (engine, used) = opened.expect("it opens");
    assert!(unused(used).contains("no files"));
    assert_eq!(logits(&engine), world.packed(WeightFormat::F32));
    assert!(!folder.exists());
}

#[test]
fn many_at_once_agree() {
    let world = World::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| world.open(WeightFormat::Int8));
        }
    });
    assert_eq!(world.files().len(), 1);
    assert!(matches!(
        world.open(WeightFormat::Int8),
        CacheUse::Read { .. }
    ));
}

#[test]
fn what_is_wrong_with_the_model_or_the_options_is_an_error_still() {
    let world = World::new(0);
    written(world.open(WeightFormat::F32));
    let none = Options {
        threads: 0,
        ..Options::default()
    };
    let open = |options| {
        let opened = Engine::open_cached(&world.checkpoint(), options, &world.path("cache"));
        opened.map(|(_, used)| used)
    };
    assert!(matches!(open(none), Err(Error::Option { .. })));
    // The last weight of the file is none.
    let weights = world.path("model").join(WEIGHTS_FILE);
    let mut bytes = copy_of(&weights);
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&weights, bytes).expect("writable");
    assert!(matches!(open(Options::default()), Err(Error::Model { .. })));
}
