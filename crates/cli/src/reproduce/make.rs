//! One step after another: what is there is kept, what has changed is made anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use cwm_recipe::{Given, Ready, Recipe, Record, Step, digest, products, products_digest};
use cwm_train::{history, newest_checkpoint};

use crate::interrupt::{interrupted, leave_interrupts};

/// What became of a step.
pub(super) enum Fate {
    /// It was made now.
    Made(Record),
    /// It was there already.
    Kept(Record),
    /// It is not there, and nobody asked for it.
    Absent,
    /// It cannot be made with what is given.
    Skipped,
}

impl Fate {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Made(_) => "made",
            Self::Kept(_) => "kept",
            Self::Absent => "absent",
            Self::Skipped => "skipped",
        }
    }

    pub(super) fn record(&self) -> Option<&Record> {
        match self {
            Self::Made(record) | Self::Kept(record) => Some(record),
            Self::Absent | Self::Skipped => None,
        }
    }
}

/// Makes the steps of a recipe.
pub(super) struct Maker<'a> {
    given: &'a Given,
    /// Digests of the inputs that were given.
    inputs: BTreeMap<String, String>,
}

impl<'a> Maker<'a> {
    /// Looks at all inputs. Those that are not what the model was made with are told in `differences`.
    pub(super) fn new(
        recipe: &Recipe,
        given: &'a Given,
        differences: &mut Vec<String>,
    ) -> Result<Self> {
        let mut inputs = BTreeMap::new();
        for (name, path) in &given.inputs {
            let found = digest(Path::new(path))?;
            let stated = recipe
                .inputs
                .get(name)
                .and_then(|input| input.sha256.as_ref());
            if stated.is_some_and(|stated| !stated.eq_ignore_ascii_case(&found)) {
                differences.push(format!(
                    "Input `{name}` is another one: its SHA-256 is {found}."
                ));
            }
            inputs.insert(name.clone(), found);
        }
        leave_interrupts();
        Ok(Self { given, inputs })
    }

    pub(super) fn is_rehearsal(&self) -> bool {
        self.given.scale != 1.0
    }

    fn record_of(&self, step: &str) -> PathBuf {
        Path::new(&self.given.out).join(format!("{step}.json"))
    }

    /// Says under which key a step was begun, so that another one does not go on with what it left.
    fn mark_of(&self, step: &str) -> PathBuf {
        Path::new(&self.given.out).join(format!("{step}.begun"))
    }

    /// A step that is not to be made.
    pub(super) fn as_it_is(&self, step: &Step) -> Result<Fate> {
        let record = Record::read(&self.record_of(&step.name))?;
        Ok(record.map_or(Fate::Absent, Fate::Kept))
    }

    /// Makes a step, unless it is there as it would be made now.
    pub(super) fn make(
        &self,
        step: &Step,
        ready: &Ready,
        notes: &[String],
        force: bool,
    ) -> Result<Fate> {
        let mut reads = self.digests(ready)?;
        let mut arguments = expanded(&ready.arguments)?;
        if step.command() == "card" {
            for note in notes {
                arguments.extend(["--note".to_owned(), note.clone()]);
                reads.insert(format!("note:{note}"), String::new());
            }
        }
        let key = ready.key(&reads);
        let folder = PathBuf::from(self.given.folder(&step.name));
        let path = self.record_of(&step.name);
        let known = Record::read(&path)?;
        if let Some(record) = known.filter(|record| record.key == key && !force) {
            if record.is_there(&folder) {
                eprintln!("`{}` is there already", step.name);
                return Ok(Fate::Kept(record));
            }
            eprintln!(
                "note: products of `{}` are gone or damaged; it is made again",
                step.name
            );
        }
        let goes_on = self.prepare(step, &key, &folder, force)?;
        if goes_on && step.command() == "train" {
            arguments.push("--resume".to_owned());
        }
        if let Some(text) = &ready.file {
            let file = self.given.file(&step.name);
            fs::write(&file, text).with_context(|| format!("cannot write `{file}`"))?;
        }
        eprintln!("making `{}`: {}", step.name, step.about);
        let begun = Instant::now();
        run(step, &arguments, &folder)?;
        let record = Record {
            step: step.name.clone(),
            key,
            cwm: env!("CARGO_PKG_VERSION").to_owned(),
            seconds: begun.elapsed().as_secs_f64(),
            products: products(&folder)?,
        };
        record.write(&path)?;
        remove(&self.mark_of(&step.name))?;
        Ok(Fate::Made(record))
    }

    /// Digests of all that a step reads.
    fn digests(&self, ready: &Ready) -> Result<BTreeMap<String, String>> {
        let mut reads = BTreeMap::new();
        for name in &ready.inputs {
            let sum = self.inputs.get(name).cloned().unwrap_or_default();
            reads.insert(format!("input:{name}"), sum);
        }
        for name in &ready.steps {
            let record = Record::read(&self.record_of(name))?;
            let record = record.with_context(|| {
                format!("it reads step `{name}`, which is not made yet; name that with --only too")
            })?;
            reads.insert(format!("step:{name}"), products_digest(&record.products));
        }
        Ok(reads)
    }

    /// Clears the way for a step, and tells whether it goes on with what was begun under the same key.
    fn prepare(&self, step: &Step, key: &str, folder: &Path, force: bool) -> Result<bool> {
        remove(&self.record_of(&step.name))?;
        let mark = self.mark_of(&step.name);
        let was_begun = fs::read_to_string(&mark).is_ok_and(|begun| begun == key);
        let goes_on = match step.command() {
            _ if force || !was_begun => false,
            "train" => newest_checkpoint(folder).is_ok(),
            // `data build` finds out by itself how far it came; all else begins anew.
            command => command == "data",
        };
        if !goes_on && folder.exists() {
            fs::remove_dir_all(folder)
                .with_context(|| format!("cannot remove `{}`", folder.display()))?;
        }
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create `{}`", folder.display()))?;
        fs::write(&mark, key).with_context(|| format!("cannot write `{}`", mark.display()))?;
        Ok(goes_on)
    }

    /// The text of the card that the last step of that kind wrote.
    pub(super) fn card(&self, fates: &[Fate]) -> Result<Option<String>> {
        let is_card = |file: &str| Path::new(file).extension().is_some_and(|end| end == "md");
        for record in fates.iter().rev().filter_map(Fate::record) {
            let found = record
                .products
                .iter()
                .find(|product| is_card(&product.file));
            if let Some(product) = found {
                let path = Path::new(&self.given.folder(&record.step)).join(&product.file);
                let text = fs::read_to_string(&path);
                let text = text.with_context(|| format!("cannot read `{}`", path.display()))?;
                return Ok(Some(text));
            }
        }
        Ok(None)
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// The arguments, with files in place of what stands for those of a folder.
fn expanded(arguments: &[String]) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for argument in arguments {
        let Some((folder, ending)) = argument.rsplit_once("/*.") else {
            out.push(argument.clone());
            continue;
        };
        let entries = fs::read_dir(folder)
            .with_context(|| format!("cannot read the folder `{folder}`"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<Vec<_>>>()?;
        let mut found: Vec<String> = entries
            .iter()
            .filter(|path| path.extension().is_some_and(|e| e == ending))
            .filter_map(|path| path.to_str().map(str::to_owned))
            .collect();
        ensure!(
            !found.is_empty(),
            "`{folder}` has no files that end in `.{ending}`"
        );
        found.sort();
        out.extend(found);
    }
    Ok(out)
}

/// Runs a command of this program to its end. What it prints goes beside our messages, unless the step keeps it.
fn run(step: &Step, arguments: &[String], folder: &Path) -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let stdout = match &step.stdout {
        None => Stdio::from(std::io::stderr()),
        Some(file) => {
            let path = folder.join(file);
            let file = fs::File::create(&path);
            Stdio::from(file.with_context(|| format!("cannot write `{}`", path.display()))?)
        }
    };
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout)
        .status()
        .context("cannot start this program again")?;
    // A training run that was stopped ends well, and is not done.
    let is_done = || match step.command() {
        "train" => history(folder).is_ok_and(|events| {
            let end = events.last();
            end.is_some_and(|end| end["event"] == "end" && end["stopped"] == false)
        }),
        _ => true,
    };
    if interrupted() || (status.success() && !is_done()) {
        bail!("it was stopped; the same command goes on");
    }
    ensure!(
        status.success(),
        "`cwm {}` failed; what it said stands above",
        arguments.join(" ")
    );
    Ok(())
}
