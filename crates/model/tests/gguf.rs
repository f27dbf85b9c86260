//! GGUF files: what is written is read back, a peer agrees, and whatever else calls itself GGUF is
//! refused with a reason, without a panic and without much memory.

mod common;

use std::path::Path;
use std::sync::OnceLock;

use common::{lively_model, max_abs_diff, python, tiny_config};
use cwm_model::{Checkpoint, Config, Dtype, Error, LayerType, Llama3Scaling, Model, Rope};
use proptest::prelude::*;

const WRITTEN: [Dtype; 5] = [
    Dtype::F32,
    Dtype::F16,
    Dtype::Bf16,
    Dtype::Q8_0,
    Dtype::Q4_0,
];

/// Rows of whole blocks, so that nothing falls back to another form.
fn blocky(config: Config) -> Config {
    Config {
        hidden_size: 32,
        intermediate_size: 64,
        head_dim: 16,
        ..config
    }
}

/// What llama.cpp's `llama` can say: every layer sees all, no embeddings of ours.
fn llama_config() -> Config {
    let config = tiny_config(true);
    Config {
        layer_types: vec![LayerType::Full; config.n_layers],
        sliding_window: config.max_position_embeddings,
        ..config
    }
}

fn bytes_of(model: &Model, dtype: Dtype) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("model.gguf");
    model.save_gguf(&path, dtype).expect("saves");
    std::fs::read(path).expect("readable")
}

fn refusal(bytes: Vec<u8>) -> String {
    let error = Checkpoint::from_gguf(bytes).expect_err("this file must be refused");
    error.to_string()
}

#[test]
fn round_trip() {
    let configs = [
        tiny_config(false),
        tiny_config(true),
        llama_config(),
        blocky(tiny_config(false)),
        blocky(llama_config()),
    ];
    for config in configs {
        let model = lively_model(config, 3);
        for dtype in WRITTEN {
            let checkpoint = Checkpoint::from_gguf(bytes_of(&model, dtype)).expect("opens");
            assert_eq!(*checkpoint.config(), model.config);
            let again = Model::from_checkpoint(&checkpoint).expect("finite");
            for tensor in model.layout.tensors() {
                let (found, exact) = (&again.params[tensor.range()], &model.params[tensor.range()]);
                let stored = checkpoint.tensor(&tensor.name).expect("there").dtype;
                let largest = exact.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
                let tolerance = match stored {
                    Dtype::F32 => 0.0,
                    Dtype::Bf16 => largest / 256.0,
                    Dtype::F16 => largest / 2048.0,
                    // Half a step, and half a unit in the last place of the scale.
                    Dtype::Q8_0 => largest / 225.0,
                    _ => largest / 7.9,
                };
                let difference = max_abs_diff(found, exact);
                assert!(
                    difference <= tolerance,
                    "{dtype:?} {}: {difference}",
                    tensor.name
                );
                let is_block = tensor.is_matrix() && tensor.n_cols() % 32 == 0;
                match (dtype, is_block) {
                    (Dtype::Q8_0 | Dtype::Q4_0, true) => assert_eq!(stored, dtype),
                    (Dtype::Q8_0 | Dtype::Q4_0, false) => {
                        assert!(matches!(stored, Dtype::F32 | Dtype::F16), "{}", tensor.name);
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Rows `j` and `j + head_dim / 2` of Hugging Face's order are neighbours in the file.
#[test]
fn rotated_rows_are_paired_in_the_file() {
    let model = lively_model(tiny_config(false), 3);
    let checkpoint = Checkpoint::from_gguf(bytes_of(&model, Dtype::F32)).expect("opens");
    let (cols, rows) = (model.config.hidden_size, model.config.query_width());
    let stored_order = |name: &str| -> Vec<usize> {
        let spec = model.layout.tensor(name).expect("there");
        let own = &model.params[spec.range()];
        let tensor = checkpoint.tensor(name).expect("there");
        let (stored, _) = tensor.data.as_chunks();
        let stored: Vec<f32> = stored.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let place = |row: &[f32]| own.chunks_exact(cols).position(|own| own == row);
        let places = stored.chunks_exact(cols).map(place);
        places
            .map(|place| place.expect("a row of the model"))
            .collect()
    };
    let queries = stored_order("model.layers.1.self_attn.q_proj.weight");
    assert_eq!(queries[..8], [0, 3, 1, 4, 2, 5, 6, 9]);
    assert_eq!(queries.len(), rows);
    let values = stored_order("model.layers.1.self_attn.v_proj.weight");
    assert_eq!(values[..4], [0, 1, 2, 3]);
}

/// A key with its value, as it lies in a file.
fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = (key.len() as u64).to_le_bytes().to_vec();
    bytes.extend(key.as_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend(value);
    bytes
}

fn text_entry(key: &str, text: &str) -> Vec<u8> {
    let mut value = (text.len() as u64).to_le_bytes().to_vec();
    value.extend(text.as_bytes());
    entry(key, TEXT, &value)
}

const U32: u32 = 4;
const TEXT: u32 = 8;

/// A file with one more key, in front of the others, and one that keeps the data aligned.
fn with_entry(bytes: &[u8], added: &[u8]) -> Vec<u8> {
    let bare = text_entry("test.filler", "").len() + added.len();
    let filler = " ".repeat(bare.next_multiple_of(32) - bare);
    let count = u64::from_le_bytes(*bytes[16..].first_chunk().expect("a header"));
    let mut out = bytes[..16].to_vec();
    out.extend((count + 2).to_le_bytes());
    out.extend(added);
    out.extend(text_entry("test.filler", &filler));
    out.extend(&bytes[24..]);
    out
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "lengths stand before texts");
    let place = bytes.windows(from.len()).position(|w| w == from.as_bytes());
    let place = place.expect("the file has it");
    let mut out = bytes.to_vec();
    out[place..place + to.len()].copy_from_slice(to.as_bytes());
    out
}

#[test]
fn unusable_files_say_why() {
    let llama = bytes_of(&lively_model(llama_config(), 3), Dtype::F32);
    let cwm = bytes_of(&lively_model(tiny_config(false), 3), Dtype::F32);
    let number = |key: &str, value: u32| with_entry(&llama, &entry(key, U32, &value.to_le_bytes()));
    let version = |version: u32| {
        let mut bytes = llama.clone();
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        bytes
    };
    let cases = [
        (b"GGML".to_vec(), "it does not begin with `GGUF`"),
        (version(1), "version 1 is older than this reader"),
        (version(3_u32.swap_bytes()), "it is big-endian"),
        (version(9), "version 9 is not 2 or 3"),
        (
            with_entry(&llama, &text_entry("general.architecture", "llama")),
            "key `general.architecture` is there twice",
        ),
        (
            replaced(&llama, "general.architecture", "general.architectura"),
            "it does not name its architecture",
        ),
        (
            number("llama.attention.sliding_window", 4096),
            "it is called `llama` but has windows of 4096 tokens, and which layers have them is \
             not said; convert the original folder with `cwm convert`",
        ),
        (
            number("llama.expert_count", 8),
            "mixtures of experts are not supported",
        ),
        (
            number("llama.logit_scale", 8),
            "key `llama.logit_scale` is not known here and may change what the model computes",
        ),
        (
            with_entry(&llama, &text_entry("llama.rope.scaling.type", "yarn")),
            "RoPE scaling `yarn` is not supported",
        ),
        (number("split.count", 3), "it is one part of several"),
        (number("general.alignments", 0), ""),
        (
            replaced(&llama, "llama.block_count", "llama.vlock_count"),
            "key `llama.vlock_count` is not known here",
        ),
        (
            replaced(&llama, "rope_freqs.weight", "rope_freqz.weight"),
            "tensor `rope_freqz.weight` is not part of the model that its config describes",
        ),
        (
            replaced(
                &llama,
                "cwm.rope.scaling.low_freq_factor",
                "cwm.rope.scaling.low_freq_faktor",
            ),
            "key `cwm.rope.scaling.low_freq_factor` is missing",
        ),
        (
            replaced(&cwm, "blk.1.attn_norm.weight", "blk.9.attn_norm.weight"),
            "tensor `model.layers.1.input_layernorm.weight` is missing, but the model's config \
             calls for it",
        ),
        (
            llama[..llama.len() - 64].to_vec(),
            "passes the end of the file; copy or download it again",
        ),
        (llama[..100].to_vec(), "it ends within its header"),
    ];
    for (bytes, expected) in cases {
        if expected.is_empty() {
            Checkpoint::from_gguf(bytes).expect("keys of others are nobody's business");
            continue;
        }
        let message = refusal(bytes);
        assert!(message.starts_with("<memory>"), "{message}");
        assert!(message.contains(expected), "{message}\nlacks: {expected}");
    }
}

/// Files of the Llama-3 family say their scaling as a tensor of factors, without the numbers it was
/// made from.
#[test]
fn scaling_follows_from_its_factors() {
    let scaling = Llama3Scaling {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let config = Config {
        head_dim: 32,
        rope: Rope {
            theta: 5e5,
            scaling: Some(scaling),
        },
        ..llama_config()
    };
    let bytes = bytes_of(&lively_model(config, 3), Dtype::F32);
    let foreign = replaced(&bytes, "cwm.rope.scaling.factor", "xyz.rope.scaling.factor");
    let checkpoint = Checkpoint::from_gguf(foreign).expect("opens");
    assert_eq!(checkpoint.config().rope.scaling, Some(scaling));

    // Of another rule there is nothing to follow.
    let odd = bytes_of(&lively_model(llama_config(), 3), Dtype::F32);
    let odd = replaced(&odd, "cwm.rope.scaling.factor", "xyz.rope.scaling.factor");
    assert!(refusal(odd).contains("its RoPE factors follow no rule that is supported"));
}

#[test]
fn a_tokenizer_survives_conversion() {
    let bytes = bytes_of(&lively_model(llama_config(), 3), Dtype::F32);
    let bytes = with_entry(
        &bytes,
        &text_entry("tokenizer.chat_template", "say {{ it }}"),
    );
    let checkpoint = Checkpoint::from_gguf(bytes).expect("opens");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("model.gguf");
    let mut written = 0;
    let mut progress = |bytes| written += bytes;
    checkpoint
        .save_gguf(&path, Dtype::F16, &mut progress)
        .expect("saves");
    assert_eq!(written, checkpoint.gguf_bytes(Dtype::F16));
    let again = std::fs::read(&path).expect("readable");
    let has = |text: &str| again.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(has("say {{ it }}") && !has("test.filler"));
    let again = Checkpoint::open(&path).expect("opens");
    assert_eq!(again.config(), checkpoint.config());
}

#[test]
fn unfit_weights_and_forms_are_refused() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("model.gguf");
    let mut model = lively_model(llama_config(), 3);
    let error = model.save_gguf(&path, Dtype::Q6K).expect_err("refused");
    assert!(
        error
            .to_string()
            .ends_with("cannot hold q6_k weights; choose one of f32, f16, bf16, q8_0, q4_0")
    );
    model.params[25] = 70_000.0;
    let error = model.save_gguf(&path, Dtype::F16).expect_err("refused");
    assert!(
        error.to_string().ends_with(
            "tensor `model.embed_tokens.weight` holds 70000 at index 25, which f16 cannot hold; \
             choose bf16 or f32"
        ),
        "{error}"
    );
    model.params[25] = f32::NAN;
    let error = model.save_gguf(&path, Dtype::F32).expect_err("refused");
    assert!(
        matches!(error, Error::NotFinite { index: 25, .. }),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
}

/// The package `gguf` writes every type we read, and reads every type we write.
#[test]
fn the_peer_agrees() {
    let Some(python) = python::python_with("gguf") else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    python::run(
        &python,
        "gguf_peer.py",
        &["write".as_ref(), dir.path().as_ref()],
    );
    let checkpoint = Checkpoint::open(&dir.path().join("peer.gguf")).expect("opens");
    assert_eq!(checkpoint.config().rope.theta, 50_000.0);
    assert_eq!(checkpoint.config().eos_token_id, [2]);
    let mut seen = Vec::new();
    for name in checkpoint.names() {
        let tensor = checkpoint.tensor(name).expect("there");
        let mut values = vec![0.0; tensor.n_rows() * tensor.n_cols()];
        tensor
            .rows(0..tensor.n_rows(), &mut values)
            .expect("all rows");
        let expected = python::floats(&dir.path().join(format!("{}.f32", peer_name(name))));
        assert!(values == expected, "{name} as {:?}", tensor.dtype);
        seen.push(tensor.dtype);
    }
    for dtype in WRITTEN.iter().chain(&[Dtype::Q4_1, Dtype::Q4K, Dtype::Q6K]) {
        assert!(seen.contains(dtype), "the peer wrote no {dtype:?}");
    }
    for dtype in WRITTEN {
        read_by_peer(&python, dtype);
    }
}

fn read_by_peer(python: &str, dtype: Dtype) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("ours.gguf");
    let model = lively_model(blocky(llama_config()), 3);
    model.save_gguf(&file, dtype).expect("saves");
    python::run(
        python,
        "gguf_peer.py",
        &["read".as_ref(), file.as_ref(), dir.path().as_ref()],
    );
    let checkpoint = Checkpoint::open(&file).expect("opens");
    for name in checkpoint.names().filter(|name| !is_rotated(name)) {
        let tensor = checkpoint.tensor(name).expect("there");
        let mut values = vec![0.0; tensor.n_rows() * tensor.n_cols()];
        tensor
            .rows(0..tensor.n_rows(), &mut values)
            .expect("all rows");
        let expected = python::floats(&dir.path().join(format!("{}.weight.f32", peer_name(name))));
        assert!(values == expected, "{name} as {dtype:?}");
    }
}

fn is_rotated(name: &str) -> bool {
    name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight")
}

/// The file's name of a tensor, spelt out here because the peer is to be independent.
fn peer_name(name: &str) -> String {
    name.trim_end_matches(".weight")
        .replace("model.layers.", "blk.")
        .replace("self_attn.o_proj", "attn_output")
        .replace("self_attn.", "attn_")
        .replace("mlp.", "ffn_")
        .replace("_proj", "")
        .replace("input_layernorm", "attn_norm")
        .replace("post_attention_layernorm", "ffn_norm")
        .replace("model.embed_tokens", "token_embd")
        .replace("model.norm", "output_norm")
        .replace("lm_head", "output")
}

/// One file for all cases below.
fn saved() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| bytes_of(&lively_model(blocky(tiny_config(false)), 3), Dtype::Q4_0))
}

/// Opens and reads everything, as far as it goes.
fn exercise(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let len = bytes.len();
    let Ok(checkpoint) = Checkpoint::from_gguf(bytes) else {
        return Ok(());
    };
    // Four bits are the least a weight can have, so that nothing grows by more than this.
    prop_assert!(checkpoint.layout().total() <= 2 * len);
    for name in checkpoint.names() {
        let tensor = checkpoint.tensor(name).expect("a name of its own");
        let mut row = vec![0.0; tensor.n_cols()];
        for at in 0..tensor.n_rows() {
            tensor.rows(at..at + 1, &mut row).expect("a row of its own");
        }
    }
    // Values that are not finite are refused, anything else is a model.
    if let Ok(model) = Model::from_checkpoint(&checkpoint) {
        prop_assert!(model.params.iter().all(|value| value.is_finite()));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn truncations_are_refused(part in 0.0..1.0_f64) {
        // Up to 31 bytes behind the last tensor fill its last 32: nobody misses these.
        let kept = ((saved().len() - 31) as f64 * part) as usize;
        prop_assert!(Checkpoint::from_gguf(saved()[..kept].to_vec()).is_err());
    }

    #[test]
    fn random_bytes_are_refused(tail in prop::collection::vec(any::<u8>(), 0..400)) {
        let bytes = [b"GGUF\x03\x00\x00\x00".as_slice(), &tail].concat();
        prop_assert!(Checkpoint::from_gguf(bytes).is_err());
    }

    #[test]
    fn damaged_files_do_not_panic(
        places in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 1..6),
        header_only in any::<bool>(),
    ) {
        let mut bytes = saved().to_vec();
        let end = if header_only { 3000 } else { bytes.len() };
        for (place, byte) in places {
            bytes[(place * end as f64) as usize] ^= byte;
        }
        exercise(bytes)?;
    }

    /// Any eight bytes of the header may be a length.
    #[test]
    fn any_lengths_do_not_panic(
        at in 0_usize..3000,
        length in prop_oneof![0..64_u64, Just(u64::MAX), Just(1 << 40), any::<u64>()],
        width in 1_usize..=8,
    ) {
        let mut bytes = saved().to_vec();
        bytes[at..at + width].copy_from_slice(&length.to_le_bytes()[..width]);
        exercise(bytes)?;
    }
}

#[test]
fn a_file_that_is_no_model_is_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("notes.txt");
    for text in ["", "GGU", "some notes"] {
        std::fs::write(&path, text).expect("writable");
        let message = Checkpoint::open(&path).expect_err("refused").to_string();
        let expected = "notes.txt is no model that can be read: it is no GGUF file; of \
                        safetensors, name the folder with config.json";
        assert!(message.ends_with(expected), "{message}");
    }
    assert!(Checkpoint::open(Path::new("no/such/folder")).is_err());
}
