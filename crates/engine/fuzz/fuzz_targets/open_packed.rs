//! Whatever lies in the place of packed weights, the engine that opens has the weights of its model.

#![no_main]

use std::cell::OnceCell;
use std::fs;
use std::path::PathBuf;

use cwm_engine::{CacheUse, Engine, Options, Session, Want, WeightFormat};
use cwm_model::{Checkpoint, Config, Dtype, LayerType, Model, Rope};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

fn config() -> Config {
    Config {
        vocab_size: 4,
        hidden_size: 2,
        intermediate_size: 2,
        n_layers: 1,
        n_heads: 1,
        n_kv_heads: 1,
        head_dim: 2,
        layer_types: vec![LayerType::Full],
        sliding_window: 4,
        rms_norm_eps: 1e-5,
        rope: Rope {
            theta: 100.0,
            scaling: None,
        },
        max_position_embeddings: 8,
        n_previous_embeddings: 0,
        run_embedding: None,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_id: Vec::new(),
    }
}

/// A model with a cache that is sound.
struct World {
    folder: TempDir,
    checkpoint: Checkpoint,
    path: PathBuf,
    good: Vec<u8>,
    logits: Vec<f32>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let saved = Model::init(config(), 1).save(folder.path(), Dtype::F32);
        saved.expect("it is saved");
        let checkpoint = Checkpoint::open(folder.path()).expect("it opens");
        let (engine, used) = open(&checkpoint, &folder);
        let CacheUse::Written { path, .. } = used else {
            panic!("{used:?}");
        };
        Self {
            good: fs::read(&path).expect("it was written"),
            logits: logits(&engine),
            folder,
            checkpoint,
            path,
        }
    }
}

fn open(checkpoint: &Checkpoint, folder: &TempDir) -> (Engine, CacheUse) {
    let options = Options {
        weights: WeightFormat::Int8,
        ..Options::default()
    };
    let opened = Engine::open_cached(checkpoint, options, folder.path());
    opened.expect("the cache never makes it fail")
}

fn logits(engine: &Engine) -> Vec<f32> {
    let logits = Session::new(engine).extend(engine, &[1, 3], Want::All);
    logits.expect("the tokens fit").as_slice().to_vec()
}

/// The sound file, cut where the first two bytes say, with an edit for each four after them:
/// where (two bytes), what is changed, and whether in place or by a byte more.
fn edited(good: &[u8], input: &[u8]) -> Option<Vec<u8>> {
    let (cut, edits) = input.split_first_chunk::<2>()?;
    let mut bytes = good.to_vec();
    bytes.truncate(usize::from(u16::from_le_bytes(*cut)));
    for &[low, high, value, kind] in edits.as_chunks::<4>().0 {
        let at = usize::from(u16::from_le_bytes([low, high])) % (bytes.len() + 1);
        match bytes.get_mut(at) {
            Some(byte) if kind % 2 == 0 => *byte ^= value,
            _ => bytes.insert(at, value),
        }
    }
    Some(bytes)
}

thread_local!(static WORLD: OnceCell<World> = const { OnceCell::new() });

fuzz_target!(|input: &[u8]| {
    WORLD.with(|world| {
        let world = world.get_or_init(World::new);
        // Half of the inputs are a file, the others change the sound one.
        let bytes = match input.split_first() {
            Some((kind, rest)) if kind % 2 == 0 => Some(rest.to_vec()),
            Some((_, rest)) => edited(&world.good, rest),
            None => None,
        };
        fs::write(&world.path, bytes.unwrap_or_default()).expect("writable");
        let (engine, _) = open(&world.checkpoint, &world.folder);
        assert_eq!(logits(&engine), world.logits);
    });
});
