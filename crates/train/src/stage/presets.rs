//! Stage files that come with the program.

use super::Stage;

/// Names of all presets.
pub const PRESETS: [&str; 5] = [
    "cwm-32b",
    "nano-tiny",
    "nano-small",
    "nano-medium",
    "nano-large",
];

/// What holds where neither preset nor file says anything, as the table `[train]`.
pub(super) const TRAIN: &str = include_str!("../../presets/train.toml");

/// The stage file of a preset; `None` if there is no such preset.
pub fn preset(name: &str, stage: Stage) -> Option<String> {
    if name == "cwm-32b" {
        return Some(
            match stage {
                Stage::Pre => include_str!("../../presets/cwm-32b/pre.toml"),
                Stage::Mid => include_str!("../../presets/cwm-32b/mid.toml"),
                Stage::Sft => include_str!("../../presets/cwm-32b/sft.toml"),
            }
            .to_owned(),
        );
    }
    let size = name.strip_prefix("nano-")?;
    PRESETS.contains(&name).then(|| {
        match stage {
            Stage::Pre => include_str!("../../presets/nano/pre.toml"),
            Stage::Mid => include_str!("../../presets/nano/mid.toml"),
            Stage::Sft => include_str!("../../presets/nano/sft.toml"),
        }
        .replace("{SIZE}", size)
    })
}
