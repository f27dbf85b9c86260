//! Which path the kernels take on this processor, and why.
//!
//! The choice is made once, on first use: what the processor has, lowered by the environment
//! variable `CWM_CPU`, and lowered again if a path fails its start-up check. AVX-512 and what is above are
//! checked against the reference because they cannot be tested on every machine that builds this
//! crate. [`Cpu`] keeps the reasons, for people and for `cwm doctor`.

use std::fmt;
use std::sync::OnceLock;

/// The environment variable that forces a lower path.
const VARIABLE: &str = "CWM_CPU";

/// The paths, slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Plain Rust, on any processor.
    Portable,
    /// AArch64 with NEON: 4 lanes in packed products and attention over pages, plain Rust elsewhere.
    Neon,
    /// x86-64 with AVX2 and FMA: 8 lanes.
    Avx2,
    /// x86-64 with AVX-512F: 16 lanes in matrix products, AVX2 elsewhere.
    Avx512,
    /// As [`Level::Avx512`], with AVX512_BF16 for products and attention that may run in
    /// [`Precision::Bf16`](crate::Precision::Bf16).
    Avx512Bf16,
    /// As [`Level::Avx512Bf16`], with the largest products on the AMX tile unit.
    Amx,
}

impl Level {
    const ALL: [Self; 6] = [
        Self::Portable,
        Self::Neon,
        Self::Avx2,
        Self::Avx512,
        Self::Avx512Bf16,
        Self::Amx,
    ];

    /// The name that `CWM_CPU` understands.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Amx => "amx",
        }
    }

    /// Whether a processor whose best path is this one can take that one. NEON is no step on the way
    /// to AVX2.
    fn includes(self, other: Self) -> bool {
        other <= self && (other != Self::Neon || self == Self::Neon)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What was detected, what was picked, and why.
#[derive(Clone, Debug)]
pub struct Cpu {
    /// The path in use.
    pub level: Level,
    /// The best path the processor offers, before `CWM_CPU` and self-checks.
    pub detected: Level,
    /// Why `level` is not `detected`, one sentence each; a mistake in `CWM_CPU` is told here
    /// too.
    pub notes: Vec<String>,
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (detected {})", self.level, self.detected)?;
        self.notes.iter().try_for_each(|note| write!(f, "; {note}"))
    }
}

/// The path in use on this processor, decided on the first call.
///
/// `CWM_CPU=portable|neon|avx2|avx512|avx512bf16|amx` forces a lower path. An unknown value changes nothing and
/// is reported in [`Cpu::notes`].
pub fn cpu() -> &'static Cpu {
    static CPU: OnceLock<Cpu> = OnceLock::new();
    CPU.get_or_init(|| {
        let asked = std::env::var_os(VARIABLE);
        let asked = asked.as_deref().map(|asked| asked.to_string_lossy());
        verified(choose(detect(), asked), self_check)
    })
}

/// Picks the level from what was detected and what was asked for.
fn choose(detected: Level, asked: Option<impl AsRef<str>>) -> Cpu {
    let mut cpu = Cpu {
        level: detected,
        detected,
        notes: Vec::new(),
    };
    let Some(asked) = asked else { return cpu };
    let asked = asked.as_ref();
    match Level::ALL.into_iter().find(|level| level.name() == asked) {
        Some(level) if detected.includes(level) => {
            cpu.level = level;
            cpu.notes.push(format!("{VARIABLE}={asked} was set"));
        }
        Some(_) => cpu.notes.push(format!(
            "{VARIABLE}={asked} asks for what this processor does not have, using {detected}"
        )),
        None => cpu.notes.push(format!(
            "{VARIABLE}={asked} is not a known path (known: {}), using {detected}",
            Level::ALL.map(Level::name).join(", ")
        )),
    }
    cpu
}

/// Lowers the level until one passes its check. AVX2 and below are trusted: tests cover them.
fn verified(mut cpu: Cpu, check: impl Fn(Level) -> Result<(), String>) -> Cpu {
    // Each rests on the one below, which does what it does not pay for, so all have to be right.
    for (level, below) in [
        (Level::Avx512, Level::Avx2),
        (Level::Avx512Bf16, Level::Avx512),
        (Level::Amx, Level::Avx512Bf16),
    ] {
        if cpu.level >= level
            && let Err(reason) = check(level)
        {
            cpu.level = below;
            cpu.notes.push(reason);
        }
    }
    cpu
}

#[cfg(target_arch = "x86_64")]
fn self_check(level: Level) -> Result<(), String> {
    crate::gemm::self_check(level)
}

#[cfg(not(target_arch = "x86_64"))]
fn self_check(_level: Level) -> Result<(), String> {
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    if !avx2 {
        Level::Portable
    } else if !is_x86_feature_detected!("avx512f") {
        Level::Avx2
    } else if !crate::gemm::has_bf16() {
        Level::Avx512
    } else if !crate::gemm::amx::request() {
        Level::Avx512Bf16
    } else {
        Level::Amx
    }
}

#[cfg(target_arch = "aarch64")]
fn detect() -> Level {
    // Part of every target of this architecture that has a standard library.
    Level::Neon
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect() -> Level {
    Level::Portable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_lowers_but_never_raises() {
        let none: Option<&str> = None;
        assert_eq!(choose(Level::Avx512, none).level, Level::Avx512);
        assert_eq!(choose(Level::Avx512, Some("avx2")).level, Level::Avx2);
        let raised = choose(Level::Avx2, Some("amx"));
        assert_eq!(raised.level, Level::Avx2);
        assert!(
            raised
                .to_string()
                .contains("what this processor does not have")
        );
    }

    #[test]
    fn neon_is_for_processors_that_have_it() {
        assert_eq!(choose(Level::Neon, Some("neon")).level, Level::Neon);
        assert_eq!(choose(Level::Neon, Some("portable")).level, Level::Portable);
        for (detected, asked) in [(Level::Amx, "neon"), (Level::Neon, "avx2")] {
            let cpu = choose(detected, Some(asked));
            assert_eq!(cpu.level, detected);
            assert!(cpu.notes[0].contains("does not have"), "{cpu}");
        }
    }

    #[test]
    fn a_path_that_fails_its_check_is_not_taken() {
        let best = || choose(Level::Amx, None::<&str>);
        let fails = |bad: Level| {
            move |level| {
                if level == bad {
                    Err(format!("{level} is wrong"))
                } else {
                    Ok(())
                }
            }
        };
        assert_eq!(verified(best(), |_| Ok(())).level, Level::Amx);
        let without_amx = verified(best(), fails(Level::Amx));
        assert_eq!(without_amx.level, Level::Avx512Bf16);
        assert!(without_amx.to_string().ends_with("amx is wrong"));
        let without_bf16 = verified(best(), fails(Level::Avx512Bf16));
        assert_eq!(without_bf16.level, Level::Avx512);
        assert_eq!(verified(best(), fails(Level::Avx512)).level, Level::Avx2);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_self_check_accepts_the_paths_that_run_here() {
        for level in Level::ALL
            .into_iter()
            .filter(|&level| detect().includes(level))
        {
            assert_eq!(self_check(level), Ok(()), "{level}");
        }
    }

    #[test]
    fn an_unknown_value_is_reported_and_ignored() {
        let cpu = choose(Level::Avx2, Some("AVX9"));
        assert_eq!(cpu.level, Level::Avx2);
        assert!(cpu.notes[0].contains("AVX9") && cpu.notes[0].contains("portable"));
    }
}
