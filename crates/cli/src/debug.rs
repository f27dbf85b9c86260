//! `cwm debug`: reads lines, prints replies. All behaviour is in `cwm-debug`.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Result, anyhow};
use cwm_debug::{Console, Options, Program, Reply, Style, render};

use crate::bridge::{Predicting, Tracing, code_lines};
use crate::model::ModelArgs;
use crate::program::{ProgramArgs, RunArgs};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    program: ProgramArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    run: RunArgs,
    /// Print replies as JSON, one a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let source = args.program.checked_source(args.run.python.as_deref())?;
    let entry = args.program.entry();
    let file = args.program.file_text();
    let loaded = args.model.load()?;
    let predicting = Predicting::new(loaded.predictor(&source)?, entry.clone());
    let reality = Tracing {
        run: &args.run,
        file: file.clone(),
        source: source.clone(),
        entry: entry.clone(),
    };
    let options = Options {
        lines: Some(code_lines(&source)),
        ..Options::default()
    };
    let program = Program {
        file,
        source,
        entry,
    };
    let mut console =
        Console::new(program, predicting, reality, options).map_err(|error| anyhow!("{error}"))?;

    let stdin = std::io::stdin();
    let interactive = stdin.is_terminal() && std::io::stdout().is_terminal();
    let colour = interactive && std::env::var_os("NO_COLOR").is_none();
    let style = if colour { Style::Ansi } else { Style::Plain };
    let show = |reply: &Reply| -> Result<()> {
        let mut out = std::io::stdout().lock();
        if args.json {
            writeln!(out, "{}", serde_json::to_string(reply)?)?;
        } else {
            write!(out, "{}", render(reply, style))?;
        }
        out.flush()?;
        Ok(())
    };
    show(&console.welcome())?;
    let say = |text: &str| -> Result<()> {
        let mut out = std::io::stdout().lock();
        if !args.json {
            write!(out, "{text}")?;
            out.flush()?;
        }
        Ok(())
    };
    let mut bytes = Vec::new();
    loop {
        say("(cwm) ")?;
        bytes.clear();
        if stdin.lock().read_until(b'\n', &mut bytes)? == 0 {
            return say("\n");
        }
        // A stray byte makes an unknown command, not the end of the session.
        let line = String::from_utf8_lossy(&bytes);
        if !interactive {
            say(&format!("{}\n", line.trim_end()))?;
        }
        let reply = console.execute(line.trim_end_matches(['\n', '\r']));
        show(&reply)?;
        if reply == Reply::Quit {
            return Ok(());
        }
    }
}
