//! Whatever opens as GGUF can be read to its last row, and describes no model that the file could
//! not hold.

#![no_main]

use cwm_model::Checkpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(checkpoint) = Checkpoint::from_gguf(bytes.to_vec()) else {
        return;
    };
    assert!(checkpoint.layout().total() <= 2 * bytes.len());
    for name in checkpoint.names() {
        let tensor = checkpoint.tensor(name).expect("a name of its own");
        let mut values = vec![0.0; tensor.n_rows() * tensor.n_cols()];
        tensor.rows(0..tensor.n_rows(), &mut values).expect("its own rows");
    }
});
