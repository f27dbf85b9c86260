//! Meta's layout: what PyTorch saves is read, and so is a file put together here by hand, which can
//! be damaged at will.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use common::{lively_model, python, tiny_config};
use cwm_model::{Checkpoint, Config, Dtype, LayerType, Model};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A model that Meta's layout can say.
fn model() -> Model {
    let config = Config {
        n_previous_embeddings: 0,
        run_embedding: None,
        bos_token_id: None,
        eos_token_id: Vec::new(),
        layer_types: vec![LayerType::Full, LayerType::Sliding, LayerType::Full],
        ..tiny_config(false)
    };
    lively_model(config, 3)
}

/// Pickles, byte by byte.
mod pickle {
    pub(super) fn text(text: &str) -> Vec<u8> {
        let mut out = vec![b'X'];
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
        out
    }

    pub(super) fn whole(n: usize) -> Vec<u8> {
        let mut out = vec![b'J'];
        out.extend((n as i32).to_le_bytes());
        out
    }

    pub(super) fn global(module: &str, name: &str) -> Vec<u8> {
        format!("c{module}\n{name}\n").into_bytes()
    }

    fn marked(open: &[u8], items: &[Vec<u8>], close: u8) -> Vec<u8> {
        [open, b"(", &items.concat(), &[close]].concat()
    }

    pub(super) fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
        marked(b"", items, b't')
    }

    pub(super) fn list(items: &[Vec<u8>]) -> Vec<u8> {
        marked(b"]", items, b'e')
    }

    pub(super) fn dict(items: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let pairs: Vec<Vec<u8>> = items
            .iter()
            .map(|(key, value)| [key.clone(), value.clone()].concat())
            .collect();
        marked(b"}", &pairs, b'u')
    }

    pub(super) fn call(function: Vec<u8>, arguments: &[Vec<u8>]) -> Vec<u8> {
        [function, tuple(arguments), b"R".to_vec()].concat()
    }

    /// An object with this state.
    pub(super) fn object(module: &str, class: &str, state: Vec<u8>) -> Vec<u8> {
        [
            global(module, class),
            b")\x81".to_vec(),
            state,
            b"b".to_vec(),
        ]
        .concat()
    }

    pub(super) fn fields(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let pairs: Vec<_> = items
            .iter()
            .map(|(key, value)| (text(key), value.clone()))
            .collect();
        dict(&pairs)
    }

    pub(super) fn size(sizes: &[usize]) -> Vec<u8> {
        let sizes: Vec<Vec<u8>> = sizes.iter().map(|n| whole(*n)).collect();
        call(global("torch", "Size"), &[tuple(&sizes)])
    }

    pub(super) fn file(value: Vec<u8>) -> Vec<u8> {
        [b"\x80\x02".to_vec(), value, b".".to_vec()].concat()
    }
}

/// A zip archive of files that are stored as they are.
fn zip(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut table) = (Vec::new(), Vec::new());
    for (name, data) in files {
        let begin = out.len() as u32;
        let [name_len, size] = [name.len() as u32, data.len() as u32];
        out.extend(b"PK\x03\x04");
        out.extend([0; 22]);
        out.extend(name_len.to_le_bytes());
        out.extend(name.as_bytes());
        out.extend(data);
        table.extend(b"PK\x01\x02");
        table.extend([0; 16]);
        table.extend(size.to_le_bytes());
        table.extend(size.to_le_bytes());
        // Length of the name in 16 bits, and of what is not there.
        table.extend(name_len.to_le_bytes());
        table.extend([0; 10]);
        table.extend(begin.to_le_bytes());
        table.extend(name.as_bytes());
    }
    let begin = out.len() as u32;
    out.extend(&table);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend((files.len() as u16).to_le_bytes());
    out.extend((files.len() as u16).to_le_bytes());
    out.extend((table.len() as u32).to_le_bytes());
    out.extend(begin.to_le_bytes());
    out.extend([0; 2]);
    out
}

/// `torch.save` of a tensor.
fn saved(sizes: &[usize], values: &[f32]) -> Vec<u8> {
    use pickle::{call, file, global, text, tuple, whole};
    let key = [
        text("storage"),
        global("torch", "FloatStorage"),
        text("0"),
        text("cpu"),
        whole(values.len()),
    ];
    let storage = [tuple(&key), b"Q".to_vec()].concat();
    let strides = match sizes {
        [_, cols] => vec![whole(*cols), whole(1)],
        _ => vec![whole(1)],
    };
    let sizes: Vec<Vec<u8>> = sizes.iter().map(|n| whole(*n)).collect();
    let rebuild = global("torch._utils", "_rebuild_tensor_v2");
    let tensor = call(
        rebuild,
        &[storage, whole(0), tuple(&sizes), tuple(&strides)],
    );
    let data = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    zip(&[("archive/data.pkl", file(tensor)), ("archive/data/0", data)])
}

/// Meta's name of a tensor.
fn own_name(name: &str) -> String {
    name.replace("model.layers.", "layers.")
        .replace("model.embed_tokens", "tok_embeddings")
        .replace("model.norm", "norm")
        .replace("lm_head", "output")
        .replace("input_layernorm", "attention_norm")
        .replace("post_attention_layernorm", "ffn_norm")
        .replace("self_attn.q_proj", "attention.wq")
        .replace("self_attn.k_proj", "attention.wk")
        .replace("self_attn.v_proj", "attention.wv")
        .replace("self_attn.o_proj", "attention.wo")
        .replace("mlp.gate_proj", "feed_forward.w1")
        .replace("mlp.up_proj", "feed_forward.w3")
        .replace("mlp.down_proj", "feed_forward.w2")
}

/// A tensor in Meta's order of rows.
fn own_values(model: &Model, name: &str) -> Vec<f32> {
    let spec = model.layout.tensor(name).expect("there");
    let values = &model.params[spec.range()];
    if !name.ends_with("q_proj.weight") && !name.ends_with("k_proj.weight") {
        return values.to_vec();
    }
    let (cols, head) = (spec.n_cols(), model.config.head_dim);
    let row = |at: usize| {
        let (head_start, within) = (at / head * head, at % head);
        let from = head_start + within / 2 + within % 2 * (head / 2);
        &values[from * cols..(from + 1) * cols]
    };
    (0..spec.n_rows()).flat_map(|at| row(at).to_vec()).collect()
}

/// The rectangles a tensor is cut into: matrices in two, some by rows and some by columns.
fn cuts(name: &str, shape: &[usize]) -> Vec<(Vec<usize>, Vec<usize>)> {
    match *shape {
        [rows, cols] if name.contains("o_proj") || name.contains("down_proj") => vec![
            (vec![0, 0], vec![rows, 3]),
            (vec![0, 3], vec![rows, cols - 3]),
        ],
        [rows, cols] => vec![
            (vec![0, 0], vec![2, cols]),
            (vec![2, 0], vec![rows - 2, cols]),
        ],
        _ => vec![(vec![0], shape.to_vec())],
    }
}

fn part(values: &[f32], shape: &[usize], offsets: &[usize], sizes: &[usize]) -> Vec<f32> {
    let [_, cols] = *shape else {
        return values.to_vec();
    };
    let rows = values.chunks_exact(cols).skip(offsets[0]).take(sizes[0]);
    rows.flat_map(|row| row[offsets[1]..offsets[1] + sizes[1]].to_vec())
        .collect()
}

const MODULE: &str = "torch.distributed.checkpoint.metadata";

/// The files of a checkpoint: `.metadata` and one of data.
fn files(model: &Model) -> (Vec<u8>, Vec<u8>) {
    use pickle::{dict, fields, file, global, list, object, size, text, tuple, whole};
    let (mut tensors, mut places, mut data) = (Vec::new(), Vec::new(), Vec::new());
    for spec in model.layout.tensors() {
        let (key, values) = (
            format!("model.{}", own_name(&spec.name)),
            own_values(model, &spec.name),
        );
        let mut chunks = Vec::new();
        for (offsets, sizes) in cuts(&spec.name, &spec.shape) {
            let archive = saved(&sizes, &part(&values, &spec.shape, &offsets, &sizes));
            let index = [
                ("fqn", text(&key)),
                ("offset", size(&offsets)),
                ("index", whole(0)),
            ];
            let place = [
                ("relative_path", text("__0_0.distcp")),
                ("offset", whole(data.len())),
                ("length", whole(archive.len())),
            ];
            places.push((
                object(MODULE, "MetadataIndex", fields(&index)),
                object(
                    "torch.distributed.checkpoint.filesystem",
                    "_StorageInfo",
                    fields(&place),
                ),
            ));
            let chunk = [("offsets", size(&offsets)), ("sizes", size(&sizes))];
            chunks.push(object(MODULE, "ChunkStorageMetadata", fields(&chunk)));
            data.extend(archive);
        }
        let properties = object(
            MODULE,
            "TensorProperties",
            tuple(&[global("torch", "float32")]),
        );
        let tensor = [
            ("properties", properties),
            ("size", size(&spec.shape)),
            ("chunks", list(&chunks)),
        ];
        tensors.push((
            text(&key),
            object(MODULE, "TensorStorageMetadata", fields(&tensor)),
        ));
    }
    let state = [
        ("state_dict_metadata", dict(&tensors)),
        ("storage_data", dict(&places)),
    ];
    (file(object(MODULE, "Metadata", fields(&state))), data)
}

fn params(config: &Config) -> Value {
    let scaling = config.rope.scaling.expect("the tiny config has it");
    json!({"model": {
        "dim": config.hidden_size, "n_layers": config.n_layers, "n_heads": config.n_heads,
        "n_kv_heads": config.n_kv_heads, "head_dim": config.head_dim,
        "vocab_size": config.vocab_size, "max_seq_len": config.max_position_embeddings,
        "norm_eps": config.rms_norm_eps, "pos_embed_impl": "scaled_rope",
        "rope_theta": config.rope.theta,
        "scaled_rope": {
            "scale_factor": scaling.factor, "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "old_context_len": scaling.original_max_position_embeddings,
        },
        "window_attn": {"window_pattern": 2, "local_window": config.sliding_window},
    }})
}

fn write(dir: &Path, params: &Value, metadata: &[u8], data: &[u8]) {
    fs::write(dir.join("params.json"), params.to_string()).expect("writable");
    fs::write(dir.join(".metadata"), metadata).expect("writable");
    fs::write(dir.join("__0_0.distcp"), data).expect("writable");
}

#[test]
fn a_checkpoint_is_put_together_from_its_pieces() {
    let model = model();
    let (metadata, data) = files(&model);
    let dir = tempfile::tempdir().expect("a temporary folder");
    write(dir.path(), &params(&model.config), &metadata, &data);
    let checkpoint = Checkpoint::open(dir.path()).expect("opens");
    assert_eq!(*checkpoint.config(), model.config);
    assert_eq!(checkpoint.bytes(), 4 * model.params.len() as u64);
    let again = Model::from_checkpoint(&checkpoint).expect("finite");
    assert_eq!(again.params, model.params);
    let out = tempfile::tempdir().expect("a temporary folder");
    let mut silent = |_| ();
    checkpoint
        .save_folder(out.path(), Dtype::F32, u64::MAX, &mut silent)
        .expect("saves");
    assert_eq!(Model::load(out.path()).expect("loads").params, model.params);
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let place = bytes.windows(from.len()).position(|w| w == from.as_bytes());
    let mut out = bytes.to_vec();
    out[place.expect("the file has it")..][..to.len()].copy_from_slice(to.as_bytes());
    out
}

#[test]
fn unusable_checkpoints_say_why() {
    let model = model();
    let (metadata, data) = files(&model);
    let with = |key: &str, value: Value| {
        let mut changed = params(&model.config);
        changed["model"][key] = value;
        changed
    };
    let good = params(&model.config);
    let cases: BTreeMap<&str, (Value, Vec<u8>, Vec<u8>)> = BTreeMap::from([
        (
            "params.json cannot be used: `qk_norm` is not supported",
            (with("qk_norm", json!(true)), metadata.clone(), data.clone()),
        ),
        (
            "unknown field `new_idea`",
            (with("new_idea", json!(1)), metadata.clone(), data.clone()),
        ),
        (
            "positions as `alibi` are not supported",
            (
                with("pos_embed_impl", json!("alibi")),
                metadata.clone(),
                data.clone(),
            ),
        ),
        (
            ".metadata cannot be used: it ends within",
            (good.clone(), metadata[..500].to_vec(), data.clone()),
        ),
        (
            ".metadata cannot be used: `/etc/passwd\\` is not a plain file name",
            (
                good.clone(),
                replaced(&metadata, "__0_0.distcp", "/etc/passwd\\"),
                data.clone(),
            ),
        ),
        (
            "__0_0.distcp cannot be used: it ends before a tensor of it",
            (
                good.clone(),
                metadata.clone(),
                data[..data.len() - 1].to_vec(),
            ),
        ),
        (
            "it has a tensor that is not stored as its metadata says",
            (
                good.clone(),
                metadata.clone(),
                replaced(&data, "FloatStorage", "FlootStorage"),
            ),
        ),
        (
            "is stored as torch.float99; expected",
            (
                good.clone(),
                replaced(&metadata, "float32", "float99"),
                data.clone(),
            ),
        ),
        (
            "what it says of `model.tok_embeddings.weight` is not understood",
            (
                good.clone(),
                replaced(&metadata, "sizes", "seize"),
                data.clone(),
            ),
        ),
    ]);
    for (expected, (params, metadata, data)) in cases {
        let dir = tempfile::tempdir().expect("a temporary folder");
        write(dir.path(), &params, &metadata, &data);
        let message = Checkpoint::open(dir.path())
            .expect_err("refused")
            .to_string();
        assert!(message.contains(expected), "{message}\nlacks: {expected}");
    }
}

/// What PyTorch saves from two processes.
#[test]
fn the_peer_agrees() {
    let Some(python) = python::python_with("torch, safetensors") else {
        return;
    };
    let model = model();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let [source, out] = ["source", "out"].map(|name| dir.path().join(name));
    model.save(&source, Dtype::Bf16).expect("saves");
    python::run(&python, "dcp_peer.py", &[source.as_ref(), out.as_ref()]);
    let checkpoint = Checkpoint::open(&out).expect("opens");
    assert_eq!(*checkpoint.config(), model.config);
    let [found, expected] = [&out, &source].map(|dir| Model::load(dir).expect("loads").params);
    assert_eq!(found, expected);
}

fn saved_files() -> &'static (Vec<u8>, Vec<u8>) {
    static FILES: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    FILES.get_or_init(|| files(&model()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_files_do_not_panic(
        places in prop::collection::vec((any::<bool>(), 0.0..1.0_f64, any::<u8>()), 1..5),
        kept in prop_oneof![Just(1.0), 0.0..1.0_f64],
    ) {
        let (mut metadata, mut data) = saved_files().clone();
        for (in_data, place, byte) in places {
            let bytes = if in_data { &mut data } else { &mut metadata };
            let at = (place * bytes.len() as f64) as usize;
            bytes[at] ^= byte;
        }
        metadata.truncate((metadata.len() as f64 * kept) as usize);
        let dir = tempfile::tempdir().expect("a temporary folder");
        write(dir.path(), &params(&model().config), &metadata, &data);
        if let Ok(checkpoint) = Checkpoint::open(dir.path()) {
            prop_assert!(checkpoint.layout().total() <= data.len());
            for name in checkpoint.names() {
                let tensor = checkpoint.tensor(name).expect("a name of its own");
                let mut values = vec![0.0; tensor.n_rows() * tensor.n_cols()];
                tensor.rows(0..tensor.n_rows(), &mut values).expect("its own rows");
            }
        }
    }
}
