//! Finds and loads the libraries that the driver does not bring: NVRTC, cuBLASLt and NCCL.
//!
//! They are loaded by the exact name of a major version that the driver can serve, because the code of a
//! newer one is refused by an older driver; first where the loader looks, then where pip puts them, then in
//! the toolkit's usual folder. Whoever has installed torch has all of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use libloading::Library;

use crate::error::Error;

/// The oldest major version of CUDA that is used.
const OLDEST: u32 = 12;

/// The newest major version of CUDA that is known to work; a driver of a later one serves its programs too.
pub(super) const NEWEST: u32 = 13;

/// Where NVIDIA's installers put the toolkit.
const TOOLKIT: &str = "/usr/local/cuda/lib64";

/// A library to look for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Its name, such as `libnvrtc`.
    pub(super) name: &'static str,
    /// The major version in its name, where that is not CUDA's.
    version: Option<u32>,
    /// How files begin that it loads by name and that only its own folder may have.
    companions: Option<&'static str>,
    /// The package for CUDA 12 and the one since CUDA 13.
    packages: [&'static str; 2],
}

/// The compiler.
pub(super) const NVRTC: Wanted = Wanted {
    name: "libnvrtc",
    version: None,
    companions: Some("libnvrtc-builtins.so."),
    packages: ["nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc"],
};

/// Matrix products.
pub(super) const CUBLASLT: Wanted = Wanted {
    name: "libcublasLt",
    version: None,
    companions: None,
    packages: ["nvidia-cublas-cu12", "nvidia-cublas"],
};

/// Sums over GPUs. Both packages have the same file in the same place, so that which version of CUDA it was
/// built for shows only in use.
pub(super) const NCCL: Wanted = Wanted {
    name: "libnccl",
    version: Some(2),
    companions: None,
    packages: ["nvidia-nccl-cu12", "nvidia-nccl-cu13"],
};

/// A structure of functions of a library: `functions! { struct Name { function(types) -> type; } }`.
macro_rules! functions {
    ($(#[$doc:meta])* struct $name:ident { $($function:ident($($argument:ty),*) -> $result:ty;)* }) => {
        $(#[$doc])*
        #[expect(non_snake_case, reason = "the library's own names")]
        #[derive(Debug)]
        pub(super) struct $name {
            $(pub(super) $function: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        impl $name {
            /// Looks each one up.
            ///
            /// # Safety
            /// They have these types in the library.
            unsafe fn of(library: &'static libloading::Library) -> Result<Self, libloading::Error> {
                Ok(Self {
                    $($function: {
                        let name = concat!(stringify!($function), "\0");
                        // SAFETY: the type is the caller's promise.
                        *unsafe { library.get(name)? }
                    },)*
                })
            }
        }
    };
}
pub(super) use functions;

impl Wanted {
    /// The library, of the newest version that a driver for CUDA `newest` can serve.
    ///
    /// # Errors
    /// [`Error::NoLibrary`].
    pub(super) fn load(&self, newest: u32) -> Result<&'static Library, Error> {
        let names = self.file_names(newest);
        let first = |reason: &mut Option<String>, error: String| {
            reason.get_or_insert(error);
        };
        let mut reason = None;
        for name in &names {
            match open(name.as_ref()) {
                Ok(library) => return Ok(library),
                Err(error) => first(&mut reason, said(&error)),
            }
        }
        for path in existing(&names, &folders(&site_packages())) {
            match self.open_with_companions(&path) {
                Ok(library) => return Ok(library),
                // A file that is there and does not load says more than those that are not there.
                Err(error) => reason = Some(said(&error)),
            }
        }
        Err(self.missing(newest, reason.unwrap_or_default()))
    }

    /// The library in this folder, or in one that pip made there.
    ///
    /// # Errors
    /// [`Error::NoLibrary`].
    pub(super) fn load_in(&self, folder: &Path) -> Result<&'static Library, Error> {
        let places = [vec![folder.to_owned()], packaged(folder)].concat();
        let mut reason = format!("it is not in {}", folder.display());
        for path in existing(&self.file_names(NEWEST), &places) {
            match self.open_with_companions(&path) {
                Ok(library) => return Ok(library),
                Err(error) => reason = said(&error),
            }
        }
        Err(self.missing(NEWEST, reason))
    }

    /// The error that says how to get it.
    pub(super) fn missing(&self, newest: u32, reason: String) -> Error {
        Error::NoLibrary {
            library: self.name,
            package: self.packages[usize::from(newest > OLDEST)],
            reason,
        }
    }

    /// The newest first.
    fn file_names(&self, newest: u32) -> Vec<String> {
        let majors = match self.version {
            Some(version) => version..=version,
            None => OLDEST..=newest,
        };
        majors
            .rev()
            .map(|major| format!("{}.so.{major}", self.name))
            .collect()
    }

    fn open_with_companions(&self, path: &Path) -> Result<&'static Library, libloading::Error> {
        let folder = path.parent().unwrap_or(Path::new("."));
        for file in entries(folder) {
            let is_companion = |begin| file_name(&file).starts_with(begin);
            if self.companions.is_some_and(is_companion) {
                // Once it is loaded, the library finds it by its name.
                open(&file)?;
            }
        }
        open(path)
    }
}

/// Loads a library for as long as the process: its threads and exit handlers do not expect otherwise.
fn open(path: &Path) -> Result<&'static Library, libloading::Error> {
    // SAFETY: the libraries are NVIDIA's, whose initialisation asks for nothing.
    let library = unsafe { Library::new(path)? };
    Ok(Box::leak(Box::new(library)))
}

/// What the loader says, which is the cause of the error and not the error itself.
pub(super) fn said(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// The folders that may hold the libraries, in the order in which they are asked.
fn folders(site_packages: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = site_packages
        .iter()
        .flat_map(|site| packaged(site))
        .collect();
    folders.push(TOOLKIT.into());
    folders
}

/// Where the packages of a `site-packages` have their libraries.
fn packaged(site: &Path) -> Vec<PathBuf> {
    let nvidia = entries(&site.join("nvidia"));
    let mut folders: Vec<PathBuf> = nvidia.iter().map(|package| package.join("lib")).collect();
    folders.push(site.join("torch").join("lib"));
    folders
}

/// The files that are there: by name first, so that the newest version wins wherever it is.
fn existing(names: &[String], folders: &[PathBuf]) -> Vec<PathBuf> {
    let paths = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    paths.filter(|path| path.is_file()).collect()
}

/// Folders from which `python3` imports.
fn site_packages() -> Vec<PathBuf> {
    let mut python = Command::new("python3");
    python.args(["-c", "import sys; print('\\n'.join(sys.path))"]);
    let Ok(output) = python.output() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(PathBuf::from).collect()
}

/// What a folder holds, sorted; nothing if it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths: BTreeSet<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.into_iter().collect()
}

fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "no library").unwrap();
        }
        root
    }

    fn found(files: &[&str], newest: u32) -> Vec<String> {
        let root = tree(files);
        let sites = [root.path().join("user"), root.path().join("system")];
        let paths = existing(&NVRTC.file_names(newest), &folders(&sites));
        let shown =
            |path: &PathBuf| Some(path.strip_prefix(root.path()).ok()?.display().to_string());
        paths.iter().filter_map(shown).collect()
    }

    #[test]
    fn the_newest_version_that_the_driver_serves_is_taken_then_the_first_folder() {
        let files = [
            "system/nvidia/cu13/lib/libnvrtc.so.13",
            "system/torch/lib/libnvrtc.so.12",
            "user/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
            "user/nvidia/cuda_nvrtc/lib/libnvrtc.alt.so.12",
            "user/nvidia/cuda_nvrtc/libnvrtc.so.12",
            "user/torch/lib/libnvrtc.so.11.2",
        ];
        let twelve = [
            "user/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
            "system/torch/lib/libnvrtc.so.12",
        ];
        assert_eq!(found(&files, 12), twelve);
        let all = [&["system/nvidia/cu13/lib/libnvrtc.so.13"][..], &twelve].concat();
        assert_eq!(found(&files, 13), all);
    }

    #[test]
    fn the_toolkit_is_asked_last() {
        let root = tree(&["nvidia/cublas/lib/libcublasLt.so.12"]);
        let folders = folders(&[root.path().to_owned()]);
        let expected = ["nvidia/cublas/lib", "torch/lib"].map(|folder| root.path().join(folder));
        assert_eq!(folders[..2], expected);
        assert_eq!(folders[2..], [PathBuf::from(TOOLKIT)]);
    }

    #[test]
    fn a_missing_library_names_the_package_of_the_drivers_version() {
        let empty = tempfile::tempdir().unwrap();
        let error = CUBLASLT.load_in(empty.path()).unwrap_err().to_string();
        assert!(
            error.contains("`pip install nvidia-cublas` brings it"),
            "{error}"
        );
        let error = NVRTC.missing(12, String::new()).to_string();
        assert!(
            error.contains("`pip install nvidia-cuda-nvrtc-cu12`"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_does_not_load_is_told_of() {
        let root = tree(&["nvidia/cu13/lib/libnvrtc.so.13"]);
        let error = NVRTC.load_in(root.path()).unwrap_err();
        let Error::NoLibrary { reason, .. } = error else {
            panic!("{error}");
        };
        assert!(reason.contains("cu13/lib/libnvrtc.so.13"), "{reason}");
    }
}
