//! `cwm train watch`: the terminal, the keys and the clock around the drawing.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use cwm_train::watch::{NamedRun, Status, Watch};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::chart::Metric;
use super::draw::{Shown, View, draw};
use super::summary::summary;
use super::{Machine, name_of, printable};

/// Time between two looks at the log.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of a training run; it need not have begun
    run: PathBuf,
    /// Print one summary and end, as where standard output is no terminal
    #[arg(long)]
    once: bool,
    /// Print figures and curves as JSON and end
    #[arg(long, conflicts_with = "once")]
    json: bool,
    #[command(flatten)]
    machine: Machine,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let name = name_of(&args.run);
    let peak = args.machine.peak_flops();
    if !args.json && !args.once && std::io::stdout().is_terminal() {
        return follow(&args.run, &name, peak);
    }
    let watch = Watch::read(&args.run)?;
    let figures = watch.figures(SystemTime::now(), peak);
    let mut stdout = std::io::stdout().lock();
    if args.json {
        let run = NamedRun {
            run: name,
            figures,
            state: watch.state(),
        };
        serde_json::to_writer(&mut stdout, &run)?;
        writeln!(stdout)?;
    } else {
        stdout.write_all(summary(&name, watch.state(), &figures).as_bytes())?;
    }
    Ok(())
}

fn follow(run: &std::path::Path, name: &str, peak: Option<f64>) -> Result<()> {
    // A panic restores the terminal too: a hook for that is part of this.
    let mut terminal = ratatui::try_init().context("cannot use the terminal")?;
    let result = watch(&mut terminal, &mut Watch::new(run), name, peak);
    ratatui::restore();
    result
}

fn watch(
    terminal: &mut DefaultTerminal,
    watch: &mut Watch,
    name: &str,
    peak: Option<f64>,
) -> Result<()> {
    let mut view = View {
        metric: Metric::Loss,
        log: false,
        tables: false,
        help: false,
        colour: std::env::var_os("NO_COLOR").is_none(),
    };
    let log = printable(&watch.log().display().to_string());
    let mut show = |watch: &Watch, view: &View, waiting: &str| -> Result<()> {
        let figures = watch.figures(SystemTime::now(), peak);
        let shown = Shown {
            run: name,
            state: watch.state(),
            figures: &figures,
            waiting: (figures.status == Status::NotStarted).then_some(waiting),
        };
        terminal.draw(|frame| draw(frame, &shown, view))?;
        Ok(())
    };
    // A long log takes seconds to read, once.
    show(watch, &view, &format!("reading `{log}`"))?;
    let waiting = format!("waiting for the run: there is nothing in `{log}` yet");
    loop {
        watch.poll()?;
        show(watch, &view, &waiting)?;
        if let Some(key) = next_key().context("cannot read the keyboard")?
            && press(key, &mut view) == After::Quit
        {
            return Ok(());
        }
    }
}

/// The next key, unless it is time to look at the log before.
fn next_key() -> std::io::Result<Option<KeyEvent>> {
    if !event::poll(LOOK_EVERY)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind != KeyEventKind::Release => Some(key),
        _ => None,
    })
}

/// What a key makes of the dashboard.
#[derive(Debug, PartialEq, Eq)]
enum After {
    Stay,
    Quit,
}

fn press(key: KeyEvent, view: &mut View) -> After {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        // The terminal does not turn Ctrl-C into a signal while the dashboard has it.
        KeyCode::Char('c') if control => return After::Quit,
        KeyCode::Char('q') => return After::Quit,
        KeyCode::Tab => view.metric = view.metric.further(1),
        KeyCode::BackTab => view.metric = view.metric.further(-1),
        KeyCode::Char('l') => view.log = !view.log,
        KeyCode::Char('t') => view.tables = !view.tables,
        KeyCode::Char('?') => view.help = !view.help,
        KeyCode::Esc => view.help = false,
        _ => {}
    }
    After::Stay
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_change_the_view_or_end_it() {
        let mut view = View {
            metric: Metric::Loss,
            log: false,
            tables: false,
            help: false,
            colour: false,
        };
        let keys = [
            KeyCode::Tab,
            KeyCode::Tab,
            KeyCode::BackTab,
            KeyCode::Char('l'),
            KeyCode::Char('t'),
            KeyCode::Char('?'),
            KeyCode::Char('c'),
        ];
        for key in keys {
            assert_eq!(press(KeyEvent::from(key), &mut view), After::Stay);
        }
        assert_eq!(view.metric, Metric::LossBySource);
        assert!(view.log && view.tables && view.help);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(press(control_c, &mut view), After::Quit);
        let q = KeyEvent::from(KeyCode::Char('q'));
        assert_eq!(press(q, &mut view), After::Quit);
    }
}
