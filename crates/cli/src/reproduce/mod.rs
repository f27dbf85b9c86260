//! `cwm reproduce`: a model made anew from its recipe, and whether it came out the same.
//!
//! Each step is a command of this program, run in a process of its own: what it takes is given back at its end, and
//! Ctrl-C reaches it as it would from a shell. Products of a step lie in `OUT/STEP/`, its record in `OUT/STEP.json`.

mod make;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use cwm_recipe::{Given, Plan, Recipe, Resolved};
use serde_json::{Value, json};

use crate::card::named_path;
use make::{Fate, Maker};

/// Recipes that are part of the program.
const KNOWN: [(&str, &str); 1] = [("nano", include_str!("../../../../models/nano/recipe.toml"))];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// `nano`, or a file that says what is done, as TOML
    recipe: String,
    /// Folder for all that is made; one that was begun is gone on with
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    out: Option<PathBuf>,
    /// Multiply counts of programs and steps by this, for a rehearsal
    #[arg(long, value_name = "F", default_value_t = 1.0)]
    scale: f64,
    /// Make these steps and no others
    #[arg(long, value_name = "STEP", num_args = 1..)]
    only: Vec<String>,
    /// Show inputs and steps, and make nothing
    #[arg(long)]
    list: bool,
    /// Make steps anew even if nothing about them has changed
    #[arg(long)]
    force: bool,
    /// Where an input lies that the recipe does not make
    #[arg(long, value_name = "NAME=PATH", value_parser = named_path, num_args = 1..)]
    set: Vec<(String, PathBuf)>,
    /// The result as JSON on standard output
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let recipe = read(&args.recipe)?;
    if args.list {
        return list(&recipe, args.json);
    }
    let out = args.out.as_deref().context("--out is missing")?;
    for name in &args.only {
        ensure!(
            recipe.step(name).is_some(),
            "the recipe has no step `{name}`; `cwm reproduce {} --list` shows its steps",
            args.recipe
        );
    }
    let given = given(args, out)?;
    let mut plan = recipe.plan(&given)?;
    let maker = Maker::new(&recipe, &given, &mut plan.differences)?;
    let mut fates = Vec::new();
    for (step, resolved) in recipe.steps.iter().zip(&plan.steps) {
        let is_wanted = args.only.is_empty() || args.only.contains(&step.name);
        let fate = match resolved {
            Resolved::Skipped(_) => Fate::Skipped,
            Resolved::Ready(_) if !is_wanted => maker.as_it_is(step)?,
            Resolved::Ready(ready) => maker
                .make(step, ready, &plan.differences, args.force)
                .with_context(|| format!("cannot make step `{}`", step.name))?,
        };
        fates.push(fate);
    }
    report(&recipe, &plan, &fates, &maker, args.json)
}

fn read(name: &str) -> Result<Recipe> {
    let text = match KNOWN.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => (*text).to_owned(),
        None => std::fs::read_to_string(name).with_context(|| {
            format!("cannot read the recipe `{name}`; name a file, or `nano` for the model that is shipped")
        })?,
    };
    Recipe::parse(&text).with_context(|| format!("cannot use the recipe `{name}`"))
}

/// What the command line says, with whole paths: steps are run where this is run, but files name paths too.
fn given(args: &Args, out: &Path) -> Result<Given> {
    ensure!(
        args.scale.is_finite() && args.scale > 0.0,
        "--scale is {}; it has to be above 0",
        args.scale
    );
    std::fs::create_dir_all(out).with_context(|| format!("cannot create `{}`", out.display()))?;
    let mut inputs = BTreeMap::new();
    for (name, path) in &args.set {
        let whole = whole(path).with_context(|| format!("cannot use input `{name}`"))?;
        ensure!(
            inputs.insert(name.clone(), whole).is_none(),
            "--set names `{name}` twice"
        );
    }
    Ok(Given {
        out: whole(out)?,
        inputs,
        scale: args.scale,
    })
}

fn whole(path: &Path) -> Result<String> {
    let shown = path.display();
    let whole = path
        .canonicalize()
        .with_context(|| format!("cannot find `{shown}`"))?;
    match whole.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => bail!("the path `{shown}` is not UTF-8; give it another name"),
    }
}

fn list(recipe: &Recipe, json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        let inputs = recipe.inputs.iter();
        let inputs = inputs.map(|(name, input)| (name.clone(), json!(input.about)));
        let steps = recipe.steps.iter().map(|step| {
            json!({"name": step.name, "about": step.about, "command": step.command(), "optional": step.optional})
        });
        let inputs: serde_json::Map<String, Value> = inputs.collect();
        let value = json!({"name": recipe.name, "about": recipe.about, "inputs": inputs,
            "steps": steps.collect::<Vec<_>>()});
        writeln!(out, "{value}")?;
        return Ok(());
    }
    writeln!(out, "{}: {}", recipe.name, recipe.about)?;
    if !recipe.inputs.is_empty() {
        writeln!(out, "\ninputs, given with --set NAME=PATH")?;
    }
    for (name, input) in &recipe.inputs {
        writeln!(out, "  {name:<16} {}", input.about)?;
    }
    writeln!(out, "\nsteps")?;
    for step in &recipe.steps {
        let optional = if step.optional { " (optional)" } else { "" };
        writeln!(out, "  {:<16} {}{optional}", step.name, step.about)?;
    }
    Ok(())
}

/// How a step's products compare with the hashes of the recipe.
fn verdict(fate: &Fate, stated: &BTreeMap<String, String>, is_rehearsal: bool) -> &'static str {
    let (Fate::Made(record) | Fate::Kept(record)) = fate else {
        return "absent";
    };
    let same = |(file, sum): (&String, &String)| {
        let product = record.products.iter().find(|product| product.file == *file);
        product.is_some_and(|product| product.sha256.eq_ignore_ascii_case(sum))
    };
    match stated.is_empty() {
        true => "not stated",
        false if is_rehearsal => "not compared",
        false if stated.iter().all(same) => "same",
        false => "differs",
    }
}

fn report(
    recipe: &Recipe,
    plan: &Plan,
    fates: &[Fate],
    maker: &Maker<'_>,
    json: bool,
) -> Result<()> {
    let verdicts = recipe.steps.iter().zip(fates);
    let verdicts: Vec<&str> = verdicts
        .map(|(step, fate)| verdict(fate, &step.sha256, maker.is_rehearsal()))
        .collect();
    let card = maker.card(fates)?;
    let mut out = std::io::stdout().lock();
    if json {
        let steps = recipe.steps.iter().zip(fates).zip(&verdicts);
        let steps = steps.map(|((step, fate), verdict)| {
            json!({"name": step.name, "state": fate.name(), "hashes": verdict, "record": fate.record()})
        });
        let value = json!({
            "recipe": recipe.name,
            "rehearsal": maker.is_rehearsal(),
            "differences": plan.differences,
            "steps": steps.collect::<Vec<_>>(),
            "card": card,
        });
        writeln!(out, "{value}")?;
        return Ok(());
    }
    if let Some(card) = card {
        writeln!(out, "{card}")?;
    }
    for ((step, fate), verdict) in recipe.steps.iter().zip(fates).zip(&verdicts) {
        let seconds = fate.record().map_or(0.0, |record| record.seconds);
        let (name, state) = (&step.name, fate.name());
        writeln!(out, "{name:<16} {state:<8} {seconds:>9.1} s  {verdict}")?;
    }
    drop(out);
    for difference in &plan.differences {
        eprintln!("note: this is not what the recipe says: {difference}");
    }
    if verdicts.contains(&"differs") {
        eprintln!(
            "warning: products differ from those of the recipe; their bits depend on the kernels that this machine \
             picks (`cwm doctor` shows them) and on the versions of Python and of packages"
        );
    }
    Ok(())
}
