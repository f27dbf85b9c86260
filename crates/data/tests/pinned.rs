//! Programs of levels 0 to 4 stay what they are for a seed: evaluations are made of them.

use cwm_data::{Level, generate};
use cwm_trace::Entry;
use sha2::{Digest, Sha256};

/// A digest of 400 programs of a level with their entries.
fn digest(level: u8) -> String {
    let level = Level::try_from(level).expect("a level");
    let mut hash = Sha256::new();
    for index in 0..400 {
        let program = generate(2024, index, level);
        let entry = match &program.entry {
            Entry::Module => String::new(),
            Entry::Call { function, args } => format!("{function}({args})"),
        };
        hash.update(format!("{}\n{entry}\n", program.source));
    }
    let bytes = hash.finalize();
    bytes[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn the_programs_of_a_seed_do_not_change() {
    let pinned = [
        "81ce9bc290d3e7b9",
        "dc7da069c73c0f72",
        "2cdf1e4566d10998",
        "e70f3f1b810aedbf",
        "b55f64afa208bd26",
    ];
    assert_eq!((0..5).map(digest).collect::<Vec<_>>(), pinned);
}
