//! `cwm store`: look into a store, and fetch from it.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Subcommand;
use cwm_store::Store;
use serde_json::json;

use crate::progress;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the folders in a store
    Ls(LsArgs),
    /// Fetch a folder out of a store
    Get(GetArgs),
}

#[derive(clap::Args)]
pub(crate) struct LsArgs {
    /// The store: DIR, file:///DIR or s3://BUCKET/PREFIX
    #[arg(value_name = "URL")]
    url: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct GetArgs {
    /// The store: DIR, file:///DIR or s3://BUCKET/PREFIX
    #[arg(value_name = "URL")]
    url: String,
    /// Which folder [default: the newest]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Folder to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Ls(args) => ls(args),
        Command::Get(args) => get(args),
    }
}

fn ls(args: &LsArgs) -> Result<()> {
    let listing = Store::open(&args.url)?.listing()?;
    let mut out = io::stdout().lock();
    if args.json {
        let versions = listing.versions.iter().map(|version| {
            json!({
                "name": version.name,
                "bytes": version.bytes(),
                "content": version.content,
                "files": version.files,
            })
        });
        let damaged = listing.damaged.iter();
        let value = json!({
            "versions": versions.collect::<Vec<_>>(),
            "damaged": damaged
                .map(|(name, reason)| json!({"name": name, "reason": reason}))
                .collect::<Vec<_>>(),
            "unfinished": listing.unfinished,
        });
        writeln!(out, "{value}")?;
        return Ok(());
    }
    for version in &listing.versions {
        writeln!(
            out,
            "{}  {} files  {} bytes",
            version.name,
            version.files.len(),
            version.bytes()
        )?;
    }
    for (name, reason) in &listing.damaged {
        eprintln!("warning: `{name}` is damaged: {reason}");
    }
    for name in &listing.unfinished {
        eprintln!("note: `{name}` was never finished");
    }
    if listing.versions.is_empty() {
        eprintln!("note: there is nothing in `{}`", args.url);
    }
    Ok(())
}

fn get(args: &GetArgs) -> Result<()> {
    let store = Store::open(&args.url)?;
    let version = match &args.name {
        Some(name) => store.version(name)?,
        None => store
            .newest()?
            .with_context(|| format!("there is nothing in `{}`", args.url))?,
    };
    let bar = progress::bytes("fetch");
    let done = store.fetch(&version, &args.out, &mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    done?;
    eprintln!("fetched `{}` to `{}`", version.name, args.out.display());
    Ok(())
}
