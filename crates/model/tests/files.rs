//! Model folders on disk: what is written can be read, and whatever else lies
//! there is refused with its name, without a panic.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::{lively_model, max_abs_diff, tiny_config};
use cwm_model::{
    CONFIG_FILE, Checkpoint, Config, Dtype, Error, INDEX_FILE, LayerType, Model, WEIGHTS_FILE,
};
use half::{bf16, f16};
use proptest::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype as Stored, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with a saved tiny model.
fn folder(dtype: Dtype) -> (TempDir, Model) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let model = lively_model(tiny_config(false), 3);
    model.save(dir.path(), dtype).expect("saves");
    (dir, model)
}

/// The message with which a folder is refused, its own path cut away.
fn refusal(dir: &Path) -> String {
    let error = Model::load(dir).expect_err("this folder must be refused");
    error
        .to_string()
        .replace(&format!("{}/", dir.display()), "")
}

/// Tensors of a weights file as owned parts, to tamper with.
type Parts = BTreeMap<String, (Stored, Vec<usize>, Vec<u8>)>;

fn parts(path: &Path) -> Parts {
    let bytes = fs::read(path).expect("readable");
    let tensors = SafeTensors::deserialize(&bytes).expect("well formed");
    let own = |(name, view): (String, TensorView<'_>)| {
        let (dtype, shape) = (view.dtype(), view.shape().to_vec());
        (name, (dtype, shape, view.data().to_vec()))
    };
    tensors.tensors().into_iter().map(own).collect()
}

fn write_parts(path: &Path, parts: &Parts) {
    let views = parts.iter().map(|(name, (dtype, shape, data))| {
        let view = TensorView::new(*dtype, shape.clone(), data);
        (name, view.expect("consistent parts"))
    });
    safetensors::serialize_to_file(views, None, path).expect("writable");
}

/// Saves a model, tampers with its tensors, and returns the refusal.
fn refusal_after(dtype: Dtype, tamper: impl FnOnce(&mut Parts)) -> String {
    let (dir, _) = folder(dtype);
    let path = dir.path().join(WEIGHTS_FILE);
    let mut tensors = parts(&path);
    tamper(&mut tensors);
    write_parts(&path, &tensors);
    refusal(dir.path())
}

/// Saves a model, changes fields of its config, and returns the refusal.
fn refusal_of_config(changes: Value) -> String {
    let (dir, _) = folder(Dtype::F32);
    let path = dir.path().join(CONFIG_FILE);
    let text = fs::read(&path).expect("readable");
    let mut config: Value = serde_json::from_slice(&text).expect("JSON");
    for (field, value) in changes.as_object().expect("an object") {
        config[field] = value.clone();
    }
    fs::write(&path, config.to_string()).expect("writable");
    refusal(dir.path())
}

const UP: &str = "model.layers.1.mlp.up_proj.weight";
const NORM: &str = "model.norm.weight";

const FOLDER_FORMS: [Dtype; 6] = [
    Dtype::F32,
    Dtype::F16,
    Dtype::Bf16,
    Dtype::Int8Group32,
    Dtype::Int4Group32,
    Dtype::Int4Group128,
];

#[test]
fn round_trip() {
    for dtype in FOLDER_FORMS {
        let (dir, model) = folder(dtype);
        let again = Model::load(dir.path()).expect("loads");
        assert_eq!(again.config, model.config);
        for tensor in model.layout.tensors() {
            let (found, exact) = (&again.params[tensor.range()], &model.params[tensor.range()]);
            let largest = exact
                .iter()
                .fold(0.0_f32, |most, value| most.max(value.abs()));
            // Half a unit in the last place of 8 or 11 bits; half a step of 127; a step of 8 for
            // the one value whose code is out of reach, where f16 rounds the scale.
            let tolerance = match dtype {
                Dtype::F32 => 0.0,
                Dtype::Bf16 => largest / 256.0,
                Dtype::F16 => largest / 2048.0,
                _ if !tensor.is_matrix() => 0.0,
                Dtype::Int8Group32 => largest / 253.0,
                _ if tensor.is_table() => largest / 253.0,
                _ => largest / 7.9,
            };
            let difference = max_abs_diff(found, exact);
            assert!(
                difference <= tolerance,
                "{dtype:?} {}: {difference}",
                tensor.name
            );
        }
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name())
            .collect();
        left.sort();
        assert_eq!(left, [CONFIG_FILE, WEIGHTS_FILE], "no temporary file stays");
    }
}

#[test]
fn half_precision_of_either_kind_is_read() {
    for (dtype, bits) in [
        (Stored::F16, f16::from_f32(0.3).to_le_bytes()),
        (Stored::BF16, bf16::from_f32(0.3).to_le_bytes()),
    ] {
        let (dir, model) = folder(Dtype::F32);
        let path = dir.path().join(WEIGHTS_FILE);
        let mut tensors = parts(&path);
        let shape = tensors[NORM].1.clone();
        let data = bits.repeat(shape[0]);
        tensors.insert(NORM.to_owned(), (dtype, shape, data));
        write_parts(&path, &tensors);
        let again = Model::load(dir.path()).expect("loads");
        let norm = &again.params[model.layout.final_norm()];
        assert!(
            norm.iter().all(|value| (value - 0.3).abs() < 2e-3),
            "{norm:?}"
        );
    }
}

#[test]
fn tied_head_is_not_stored() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let model = lively_model(tiny_config(true), 3);
    model.save(dir.path(), Dtype::F32).expect("saves");
    assert!(!parts(&dir.path().join(WEIGHTS_FILE)).contains_key("lm_head.weight"));
    assert_eq!(Model::load(dir.path()).expect("loads").params, model.params);
}

#[test]
fn shards_are_followed() {
    let (dir, model) = folder(Dtype::F32);
    let whole = dir.path().join(WEIGHTS_FILE);
    let all = parts(&whole);
    fs::remove_file(&whole).expect("removable");
    let (mut first, mut second) = (Parts::new(), Parts::new());
    let mut weight_map = BTreeMap::new();
    for (index, (name, part)) in all.into_iter().enumerate() {
        let (shard, file) = match index % 2 {
            0 => (&mut first, "model-00001-of-00002.safetensors"),
            _ => (&mut second, "model-00002-of-00002.safetensors"),
        };
        weight_map.insert(name.clone(), file);
        shard.insert(name, part);
    }
    write_parts(&dir.path().join("model-00001-of-00002.safetensors"), &first);
    write_parts(
        &dir.path().join("model-00002-of-00002.safetensors"),
        &second,
    );
    let index = dir.path().join(INDEX_FILE);
    fs::write(&index, json!({ "weight_map": weight_map }).to_string()).expect("writable");
    assert_eq!(Model::load(dir.path()).expect("loads").params, model.params);

    // The same tensor in both shards is a damaged export.
    second.extend(first);
    write_parts(
        &dir.path().join("model-00002-of-00002.safetensors"),
        &second,
    );
    let message = refusal(dir.path());
    assert!(message.contains("is also in another shard"), "{message}");

    let outside = json!({ "weight_map": { UP: "../other.safetensors" } });
    fs::write(&index, outside.to_string()).expect("writable");
    let message = refusal(dir.path());
    assert!(
        message.contains("`../other.safetensors` is not a plain file name"),
        "{message}"
    );
}

#[test]
fn wrong_tensors_are_named() {
    let cases = [
        (
            refusal_after(Dtype::F32, |t| drop(t.remove(UP))),
            format!(
                "model.safetensors: tensor `{UP}` is missing, but the model's config calls for it"
            ),
        ),
        (
            refusal_after(Dtype::F32, |t| {
                let part = t[UP].clone();
                t.insert("model.layers.9.odd".to_owned(), part);
            }),
            "model.safetensors: tensor `model.layers.9.odd` is not part of the model that its \
             config describes"
                .to_owned(),
        ),
        (
            refusal_after(Dtype::F32, |t| {
                t.get_mut(UP).expect("there").1 = vec![10, 14]
            }),
            format!(
                "model.safetensors: tensor `{UP}` has shape [10, 14], but the model's config calls for \
                 [14, 10]"
            ),
        ),
        (
            refusal_after(Dtype::F32, |t| {
                t.get_mut(UP).expect("there").0 = Stored::I32
            }),
            format!(
                "model.safetensors: tensor `{UP}` is stored as I32; expected F32, BF16, F16, or \
                 for a matrix I8 or U8 with scales, or GGUF's Q8_0, Q4_0, Q4_1, Q4_K, Q6_K"
            ),
        ),
        (
            refusal_after(Dtype::F32, |t| {
                t.get_mut(UP).expect("there").2[..4].copy_from_slice(&f32::NAN.to_le_bytes());
            }),
            format!(
                "model.safetensors: tensor `{UP}` holds NaN at index 0; the run that made it \
                 diverged or the file is damaged"
            ),
        ),
        (
            refusal_after(Dtype::Int8Group32, |t| {
                drop(t.remove(&format!("{UP}.scales")))
            }),
            format!(
                "model.safetensors: tensor `{UP}.scales` is missing, but the model's config calls for it"
            ),
        ),
        (
            refusal_after(Dtype::Int8Group32, |t| {
                let scales = t.get_mut(&format!("{UP}.scales")).expect("there");
                scales.1.reverse();
            }),
            format!(
                "model.safetensors: tensor `{UP}.scales` has shape [1, 14], but the model's \
                 config calls for [14, 1]"
            ),
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
}

#[test]
fn another_vocabulary_is_explained() {
    assert_eq!(
        refusal_of_config(json!({ "vocab_size": 20 })),
        "model.safetensors: tensor `model.embed_tokens.weight` has shape [19, 10], but \
         the model's config calls for [20, 10] [vocab_size, hidden_size]; weights and config are from \
         different models"
    );
}

#[test]
fn unsupported_configs_are_named() {
    let cases = [
        (
            json!({"architectures": ["MistralForCausalLM"]}),
            "[\"MistralForCausalLM\"] is not",
        ),
        (
            json!({"hidden_act": "gelu"}),
            "hidden_act `gelu` is not silu",
        ),
        (
            json!({"attention_bias": true}),
            "attention_bias and mlp_bias must be false",
        ),
        (
            json!({"rope_parameters": {"rope_type": "yarn"}}),
            "rope_type `yarn` is not",
        ),
        (
            json!({"rope_parameters": {"rope_type": "llama3"}}),
            "llama3 RoPE needs factor",
        ),
        (
            json!({"quantization_config": {"quant_method": "awq"}}),
            "quantised by `awq`",
        ),
        (
            json!({"layer_types": ["full_attention"]}),
            "layer_types lists 1 layers",
        ),
        (
            json!({"layer_types": ["chunked_attention"]}),
            "unknown variant `chunked_attention`",
        ),
        (
            json!({"num_key_value_heads": 3}),
            "is not a multiple of num_key_value_heads = 3",
        ),
        (json!({"head_dim": 7}), "head_dim = 7 is odd"),
        (json!({"hidden_size": 0}), "hidden_size = 0 is not within"),
        (json!({"vocab_size": 1_u64 << 60}), "is not within 1..="),
        (
            json!({"run_embedding": {"kinds": [[2, 19]], "n_places": 3}}),
            "run_embedding.kinds has 2 to 19, which is not a range of the vocabulary of 19",
        ),
        (
            json!({"run_embedding": {"kinds": [[2, 7]], "n_places": 0}}),
            "run_embedding.n_places = 0 is not within 1..=",
        ),
        (json!({"num_hidden_layers": u64::MAX}), "num_hidden_layers"),
        (
            json!({"rms_norm_eps": 0.0}),
            "rms_norm_eps = 0 is not positive",
        ),
        (
            json!({"eos_token_id": 19}),
            "special id 19 is outside the vocabulary of 19",
        ),
        (
            json!({"hidden_size": "ten"}),
            "invalid type: string \"ten\"",
        ),
    ];
    for (changes, expected) in cases {
        let message = refusal_of_config(changes);
        assert!(message.starts_with(CONFIG_FILE), "{message}");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn empty_and_missing_folders() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    assert!(refusal(dir.path()).starts_with("cannot read config.json: "));
    tiny_config(false).save(dir.path()).expect("saves");
    assert!(refusal(dir.path()).ends_with("model.safetensors.index.json"));
    assert!(matches!(
        Model::load(dir.path()),
        Err(Error::NoWeights { .. })
    ));
}

/// What one writer of safetensors makes is what the library makes of the same tensors, byte for byte.
#[test]
fn files_are_those_of_the_library() {
    let (dir, _) = folder(Dtype::Int8Group32);
    let path = dir.path().join(WEIGHTS_FILE);
    let written = fs::read(&path).expect("readable");
    let tensors = parts(&path);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        let view = TensorView::new(*dtype, shape.clone(), data);
        (name, view.expect("consistent parts"))
    });
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let expected = safetensors::serialize(views, Some(metadata)).expect("serialises");
    assert!(written == expected);
}

#[test]
fn rows_are_read_where_they_are_asked_for() {
    let (dir, model) = folder(Dtype::F32);
    let checkpoint = Checkpoint::open(dir.path()).expect("opens");
    let tensor = checkpoint.tensor(UP).expect("there");
    assert_eq!((tensor.n_rows(), tensor.n_cols()), (14, 10));
    let mut rows = [0.0; 20];
    tensor.rows(3..5, &mut rows).expect("two rows");
    let spec = model.layout.tensor(UP).expect("there");
    assert_eq!(rows, model.params[spec.range()][30..50]);
    for (range, len) in [
        (13..15, 20),
        (3..5, 19),
        (0..0, 1),
        (usize::MAX..usize::MAX, 0),
    ] {
        let error = tensor.rows(range, &mut rows[..len]).expect_err("refused");
        assert!(matches!(error, Error::Rows { .. }), "{error}");
    }
    tensor.rows(14..14, &mut []).expect("no rows");
    assert!(checkpoint.tensor("no.such").is_err());
}

/// Values are the model's business, not the reader's.
#[test]
fn infinite_weights_can_be_looked_at() {
    let (dir, _) = folder(Dtype::F32);
    let path = dir.path().join(WEIGHTS_FILE);
    let mut tensors = parts(&path);
    let data = &mut tensors.get_mut(UP).expect("there").2;
    data[48..52].copy_from_slice(&f32::INFINITY.to_le_bytes());
    write_parts(&path, &tensors);
    let checkpoint = Checkpoint::open(dir.path()).expect("opens");
    let mut row = [0.0; 10];
    let tensor = checkpoint.tensor(UP).expect("there");
    tensor.rows(1..2, &mut row).expect("a row");
    assert_eq!(row[2], f32::INFINITY);
    let out = dir.path().join("out");
    let mut silent = |_| ();
    let refusals = [
        Model::load(dir.path()).map(drop),
        checkpoint.save_folder(&out, Dtype::Int8Group32, u64::MAX, &mut silent),
    ];
    for refusal in refusals {
        let error = refusal.expect_err("refused");
        let is_named = matches!(&error, Error::NotFinite { tensor, index: 12, .. } if tensor == UP);
        assert!(is_named, "{error}");
    }
}

#[test]
fn diverged_weights_are_not_saved_over_good_ones() {
    let (dir, mut model) = folder(Dtype::F32);
    let good = model.params.clone();
    model.params[5] = f32::INFINITY;
    let error = model.save(dir.path(), Dtype::F32).expect_err("refused");
    assert!(matches!(error, Error::NotFinite { .. }), "{error}");
    assert_eq!(Model::load(dir.path()).expect("loads").params, good);
}

/// Fields that Llama-family files leave out or spell in the old way.
#[test]
fn old_and_short_configs() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let read = |config: Value| {
        fs::write(dir.path().join(CONFIG_FILE), config.to_string()).expect("writable");
        Config::load(dir.path()).expect("loads")
    };
    let mut file = json!({
        "architectures": ["LlamaForCausalLM"], "vocab_size": 100, "hidden_size": 64,
        "intermediate_size": 128, "num_hidden_layers": 9, "num_attention_heads": 4,
        "rope_theta": 5e5, "eos_token_id": 2, "max_position_embeddings": 512,
        "rope_scaling": {"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
        "torch_dtype": "bfloat16",
    });
    let llama = read(file.clone());
    assert_eq!((llama.head_dim, llama.n_kv_heads), (16, 4));
    assert_eq!(llama.layer_types, [LayerType::Full; 9]);
    assert_eq!(llama.rope.theta, 5e5);
    assert_eq!(llama.rope.scaling.map(|s| s.factor), Some(8.0));
    assert_eq!(llama.eos_token_id, [2]);

    file["architectures"] = json!(["CwmForCausalLM"]);
    file["rope_scaling"] = Value::Null;
    file["rope_theta"] = Value::Null;
    let cwm = read(file);
    let full = |layer: usize| cwm.layer_types[layer] == LayerType::Full;
    let full: Vec<usize> = (0..9).filter(|&layer| full(layer)).collect();
    assert_eq!(full, [0, 4, 8]);
    assert_eq!((cwm.sliding_window, cwm.rope.theta), (8192, 1e6));
    assert_eq!(cwm.rope.scaling.map(|s| s.factor), Some(16.0));
}

/// One saved model for all cases below; they only replace its weights file.
fn saved_bytes() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let (dir, _) = folder(Dtype::Int8Group32);
        fs::read(dir.path().join(WEIGHTS_FILE)).expect("readable")
    })
}

/// One folder with shards, and its index.
fn sharded() -> (&'static Path, &'static Path) {
    static SHARDED: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (dir, index) = SHARDED.get_or_init(|| {
        let (whole, _) = folder(Dtype::F16);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let checkpoint = Checkpoint::open(whole.path()).expect("opens");
        checkpoint
            .save_folder(dir.path(), Dtype::F16, 4_000, &mut |_| ())
            .expect("saves");
        let index = dir.path().join(INDEX_FILE);
        (dir, index)
    });
    (dir.path(), index)
}

/// Files of at most so many bytes, or one tensor, that together hold the model.
#[test]
fn large_models_are_written_in_shards() {
    let (dir, _) = sharded();
    let sizes: Vec<u64> = fs::read_dir(dir)
        .expect("readable")
        .map(|entry| entry.expect("readable"))
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("model-"))
        .map(|entry| entry.metadata().expect("readable").len())
        .collect();
    assert!(sizes.len() > 1, "{sizes:?}");
    let (whole, _) = folder(Dtype::F16);
    let [shards, whole] = [dir, whole.path()].map(|dir| Model::load(dir).expect("loads").params);
    assert_eq!(shards, whole);
}

fn load_with(config: Option<&[u8]>, file: &str, bytes: &[u8]) -> Result<Model, Error> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    tiny_config(false).save(dir.path()).expect("saves");
    if let Some(config) = config {
        fs::write(dir.path().join(CONFIG_FILE), config).expect("writable");
    }
    fs::write(dir.path().join(file), bytes).expect("writable");
    Model::load(dir.path())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn truncations_are_refused(part in 0.0..1.0_f64) {
        let whole = saved_bytes();
        let kept = (whole.len() as f64 * part) as usize;
        let error = load_with(None, WEIGHTS_FILE, &whole[..kept]).expect_err("truncated");
        prop_assert!(error.to_string().contains(WEIGHTS_FILE));
        let is_named = matches!(error, Error::Safetensors { .. });
        prop_assert!(is_named, "{error}");
    }

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for file in [WEIGHTS_FILE, INDEX_FILE] {
            prop_assert!(load_with(None, file, &bytes).is_err());
        }
        prop_assert!(load_with(Some(&bytes), WEIGHTS_FILE, saved_bytes()).is_err());
    }

    /// A plausible header length in front of random text reaches the JSON.
    #[test]
    fn random_headers_are_refused(text in "[\\[\\]{}\",:a-zA-Z0-9_. ]{0,200}") {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        prop_assert!(load_with(None, WEIGHTS_FILE, &bytes).is_err());
    }

    /// Flipped bytes may leave a valid model (a weight changed); never a panic.
    #[test]
    fn damaged_files_do_not_panic(
        places in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 1..6),
        header_only in any::<bool>(),
    ) {
        let mut bytes = saved_bytes().to_vec();
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().expect("8 bytes")) as usize;
        let end = if header_only { header } else { bytes.len() };
        for (place, byte) in places {
            bytes[(place * end as f64) as usize] ^= byte;
        }
        if let Ok(model) = load_with(None, WEIGHTS_FILE, &bytes) {
            prop_assert!(model.params.iter().all(|value| value.is_finite()));
        }
    }

    /// Any bytes of the header, the length in front of it included, may be overwritten.
    #[test]
    fn any_lengths_do_not_panic(
        at in 0.0..1.0_f64,
        text in prop_oneof!["[0-9]{1,20}", "\\PC{1,12}"],
    ) {
        let mut bytes = saved_bytes().to_vec();
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().expect("8 bytes")) as usize;
        let at = (at * (header - 64) as f64) as usize;
        bytes[at..at + text.len()].copy_from_slice(text.as_bytes());
        if let Ok(checkpoint) = Checkpoint::from_safetensors(tiny_config(false), bytes) {
            prop_assert!(Model::from_checkpoint(&checkpoint).is_ok());
        }
    }

    /// An index that was cut short, or in which bytes have changed.
    #[test]
    fn damaged_indices_do_not_panic(
        kept in 0.0..=1.0_f64,
        places in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 0..4),
    ) {
        let (dir, index) = sharded();
        let whole = fs::read(index).expect("readable");
        let mut bytes = whole[..(whole.len() as f64 * kept) as usize].to_vec();
        for (place, byte) in places {
            let len = bytes.len() as f64;
            if let Some(byte_there) = bytes.get_mut((place * len) as usize) {
                *byte_there ^= byte;
            }
        }
        let copy = tempfile::tempdir().expect("a temporary folder");
        for entry in fs::read_dir(dir).expect("readable") {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("a file").to_owned();
            fs::copy(&path, copy.path().join(name)).expect("writable");
        }
        fs::write(copy.path().join(INDEX_FILE), &bytes).expect("writable");
        // Which shard a tensor is said to lie in does not matter: shards say that themselves.
        if let Ok(model) = Model::load(copy.path()) {
            prop_assert!(model.params.iter().all(|value| value.is_finite()));
        }
    }

    /// Configs with any numbers are refused or describe a layout that adds up.
    #[test]
    fn any_numbers_in_a_config(
        sizes in prop::collection::vec(prop_oneof![0..64_u64, any::<u64>()], 8),
    ) {
        let config = json!({
            "model_type": "cwm", "vocab_size": sizes[0], "hidden_size": sizes[1],
            "intermediate_size": sizes[2], "num_hidden_layers": sizes[3] % 100,
            "num_attention_heads": sizes[4], "num_key_value_heads": sizes[5],
            "head_dim": sizes[6], "sliding_window": sizes[7],
        });
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::write(dir.path().join(CONFIG_FILE), config.to_string()).expect("writable");
        if let Ok(config) = Config::load(dir.path()) {
            let layout = cwm_model::Layout::new(&config);
            prop_assert_eq!(layout.total(), config.n_params());
            let sum: usize = layout.tensors().iter().map(|tensor| tensor.len).sum();
            prop_assert_eq!(sum, layout.total());
        }
    }
}

#[test]
fn an_identity_stays_until_the_weights_change() {
    let (dir, _) = folder(Dtype::F32);
    let path = dir.path().join(WEIGHTS_FILE);
    let identity = || {
        let checkpoint = Checkpoint::open(dir.path()).expect("opens");
        checkpoint.identity().expect("files have one")
    };
    let set_modified = |time| {
        let file = fs::File::options().write(true).open(&path);
        let set = file.and_then(|file| file.set_modified(time));
        set.expect("it is ours");
    };
    let first = identity();
    assert!(first.len() == 64 && first.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(identity(), first);

    // A nanosecond later.
    let modified = fs::metadata(&path).and_then(|about| about.modified());
    let modified = modified.expect("it is known");
    set_modified(modified + std::time::Duration::from_nanos(1));
    assert_ne!(identity(), first);
    set_modified(modified);
    assert_eq!(identity(), first);

    // Other weights, as long and as old: the last byte belongs to the last of them.
    let mut bytes = fs::read(&path).expect("readable");
    *bytes.last_mut().expect("it is not empty") ^= 1;
    fs::write(&path, bytes).expect("writable");
    set_modified(modified);
    let flipped = identity();
    assert_ne!(flipped, first);

    let config_path = dir.path().join(CONFIG_FILE);
    let config = fs::read_to_string(&config_path).expect("readable");
    let other = config
        .replace("1e-5", "1e-6")
        .replace("0.00001", "0.000001");
    assert_ne!(other, config);
    fs::write(&config_path, other).expect("writable");
    assert_ne!(identity(), flipped);
}

#[test]
fn a_checkpoint_in_memory_has_no_identity() {
    let (dir, model) = folder(Dtype::F32);
    let bytes = fs::read(dir.path().join(WEIGHTS_FILE)).expect("readable");
    let checkpoint = Checkpoint::from_safetensors(model.config, bytes).expect("opens");
    assert_eq!(checkpoint.identity(), None);
}
