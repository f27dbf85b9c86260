//! The dashboard in snapshots, without a terminal.

use std::time::Duration;

use cwm_train::watch::LogEvent;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::summary::summary;
use super::*;

/// A run of 40 steps out of 100, with two evaluations and a skipped step.
fn state() -> RunState {
    let mut lines = vec![
        r#"{"event":"start","steps":100,"parameters":1000,"flops_per_token":6000000}"#.to_owned(),
    ];
    for step in 1..=40_u32 {
        let loss = 6.0 / f64::from(step).sqrt();
        let skipped = match step {
            9 => r#","skipped":"spike""#,
            _ => "",
        };
        lines.push(format!(
            r#"{{"event":"step","step":{step},"epoch":0.25,"loss":{loss},"accuracy":0.5,"lr":0.003,"grad_norm":{norm},"tokens":4096,
            "tok_per_s":2048,"seconds":2,"rss_mb":512,"sources":[{{"name":"idioms","loss":{loss},"accuracy":0.5}},{{"name":"wide","loss":1,"accuracy":0.75}}],
            "kinds":[{{"name":"action","loss":0.5,"accuracy":0.9}}]{skipped}}}"#,
            norm = 1.0 + f64::from(step % 5),
        ));
        if step % 20 == 0 {
            lines.push(format!(
                r#"{{"event":"evaluation","step":{step},"loss":{held_out},"accuracy":0.625,"frames":8,"frame_exact":0.25,
                "kinds":[{{"name":"action","loss":0.75,"accuracy":0.875,"frame_exact":0.5}},{{"name":"state\u001b[2J","loss":1.5,"accuracy":0.75,"frame_exact":0.375}}]}}"#,
                held_out = loss + 0.5,
            ));
        }
    }
    let mut state = RunState::default();
    for line in lines {
        state.push(&LogEvent::parse(line.as_bytes()).expect("an event"));
    }
    state
}

const PLAIN: View = View {
    metric: Metric::Loss,
    log: false,
    tables: false,
    help: false,
    colour: false,
};

fn drawn(state: &RunState, view: &View, size: (u16, u16)) -> String {
    let figures = state.figures(Some(Duration::from_secs(3)), Some(1e11));
    let waiting = (*state == RunState::default()).then_some("waiting for the run");
    let shown = Shown {
        run: "mine",
        state,
        figures: &figures,
        waiting,
    };
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).expect("a buffer");
    terminal
        .draw(|frame| draw(frame, &shown, view))
        .expect("a buffer");
    let buffer = terminal.backend().buffer();
    let row = |row: &[ratatui::buffer::Cell]| -> String {
        let text: String = row.iter().map(|cell| cell.symbol()).collect();
        format!("{}\n", text.trim_end())
    };
    buffer.content().chunks(size.0.into()).map(row).collect()
}

#[test]
fn a_wide_terminal_has_chart_figures_and_tables() {
    insta::assert_snapshot!(drawn(&state(), &PLAIN, (100, 38)), @r"
    mine: running [================                        ] 40.0%
    ┌loss, nats────────────────────────────────────────────┐┌──────────────────────────────────────────┐
    │6    │⡇                                               ││status            running, 3 s ago        │
    │     │⢣                                               ││step              40 of 100               │
    │     │⢸                                               ││epoch             0.25                    │
    │     │⢸                                               ││loss              0.9812                  │
    │     │⠈⡆                                              ││accuracy          0.5000                  │
    │     │ ⡇                                              ││held-out loss     1.4487                  │
    │     │ ⢱                                              ││held-out accuracy 0.6250                  │
    │     │ ⠘⡄                                             ││frames exact      0.2500                  │
    │     │  ⢣                                             ││best held-out     1.4487 at step 40       │
    │     │ ⠂⠸⡀                                            ││learning rate     0.003                   │
    │     │   ⡇                                            ││gradient norm     1                       │
    │     │   ⢱                                            ││speed             2,048 tok/s             │
    │     │   ⠈⡆                                           ││compute           12.3 GFLOP/s            │
    │3.47 │  ⠠ ⠘⡄                                          ││of the peak       12.3%                   │
    │     │     ⢱                                          ││memory            512 MB                  │
    │     │     ⠈⢆                                         ││remaining         2 min 0 s               │
    │     │   ⠈  ⠈⢆                                        ││tokens            163,840                 │
    │     │     ⠄ ⠈⢆                                       ││trained for       1 min 20 s              │
    │     │      ⡀ ⠘⡄                                      ││skipped           1 spike                 │
    │     │       ⢀ ⠈⠢⡀                                    ││                                          │
    │     │        ⠠  ⠘⢄                                   ││                                          │
    │     │         ⠐ ⡀ ⠑⢄        •                        ││                                          │
    │     │            ⠂⠠ ⠉⠒⢄⡀                             ││                                          │
    │     │              ⠈ ⠂⠄⠈⠑⠢⢄⣀                        •││                                          │
    │     │                   ⠈⠐ ⠄⠉⠒⠢⢄⣀⣀                   ││                                          │
    │     │                         ⠈ ⠂⠂⠉⠒⠒⠢⠤⠤⣀⣀⡀          ││                                          │
    │0.949│                                   ⠈⠈⠈⠉⠉⠉⠒⠒⠒⠒⠤⠤⠤││                                          │
    │     └────────────────────────────────────────────────││                                          │
    │     1                                         step 40││                                          │
    └ ⠤ training  • held out ──────────────────────────────┘└──────────────────────────────────────────┘
    ┌────────────────────────────────────────────────┐┌────────────────────────────────────────────────┐
    │source          loss    acc h.loss  h.acc  exact││kind            loss    acc h.loss  h.acc  exact│
    │idioms        0.9812 0.5000                     ││action        0.5000 0.9000 0.7500 0.8750 0.5000│
    │wide          1.0000 0.7500                     ││state\u{1b}[2               1.5000 0.7500 0.3750│
    └────────────────────────────────────────────────┘└────────────────────────────────────────────────┘
    q quit  tab metric  l log axis  t tables  ? help
    ");
}

#[test]
fn a_small_terminal_has_the_chart() {
    let view = View {
        metric: Metric::GradientNorm,
        log: true,
        ..PLAIN
    };
    insta::assert_snapshot!(drawn(&state(), &view, (60, 18)), @r"
    mine: running [==============                       ] 40.0%
    ┌gradient norm, logarithmic────────────────────────────────┐
    │5   │   ⢠⡇     ⢠•     ⣼     ⢠⡇     ⢠⡇     ⣼      ⣼     ⢠⡇ │
    │    │  ⢠⠃⡇    ⢠⠃⡇    ⡜⢸     ⡜⡇    ⢠⠃⡇    ⢠⢻     ⡜⢸     ⡜⡇ │
    │    │  ⡜ ⢸    ⡎ ⡇   ⢠⠃ ⡇   ⢰⠁⢸    ⡜ ⢸    ⡎ ⡇   ⢰⠁ ⡇   ⢰⠁⢸ │
    │    │ ⢠⠃ ⢸   ⡜  ⢸   ⡜  ⡇  ⢠⠃ ⢸   ⢠⠃ ⢸   ⡜  ⡇  ⢠⠃  ⡇  ⢠⠃ ⢸ │
    │    │ ⡜  ⢸  ⢠⠃  ⢸  ⢠⠃  ⡇  ⡜  ⢸   ⡜  ⢸  ⢠⠃  ⡇  ⡸   ⡇  ⡜  ⢸ │
    │    │⢠⠃  ⢸  ⡜   ⢸  ⡜   ⡇ ⢠⠃  ⢸  ⢠⠃  ⢸  ⡜   ⡇  ⡇   ⡇ ⢠⠃  ⢸ │
    │2.24│⡜    ⡇⢠⠃   ⢸ ⢠⠃   ⢸ ⡜    ⡇ ⡜    ⡇⢠⠃   ⢸ ⢰⠁   ⢸ ⡜    ⡇│
    │    │     ⡇⢸    ⢸ ⡸    ⢸ ⡇    ⡇⢀⠇    ⡇⢸    ⢸ ⡸    ⢸ ⡇    ⡇│
    │    │     ⡇⡎    ⢸ ⡇    ⢸⢰⠁    ⡇⢸     ⡇⡎    ⢸ ⡇    ⢸⢰⠁    ⡇│
    │    │     ⡇⡇     ⣧⠃    ⢸⢸     ⡇⡜     ⡇⡇    ⢸⢠⠃    ⢸⢸     ⡇│
    │    │     ⢸⠇     ⣿      ⡿     ⢸⡇     ⢸⠇     ⣿      ⡿     ⢸│
    │1   │     ⢸      ⡇      ⡇     ⢸      ⢸      ⡇      ⡇     ⢸│
    │    └─────────────────────────────────────────────────────│
    │    1                                              step 40│
    └ ⠤ norm  • skipped: spike ────────────────────────────────┘
    q quit  tab metric  l log axis  t tables  ? help
    ");
}

#[test]
fn a_usual_terminal_has_chart_and_figures_and_the_tables_on_demand() {
    insta::assert_snapshot!(drawn(&state(), &PLAIN, (80, 24)), @r"
    mine: running [================                        ] 40.0%
    ┌loss, nats────────────────────────┐┌──────────────────────────────────────────┐
    │6    │⡇                           ││status            running, 3 s ago        │
    │     │⡇                           ││step              40 of 100               │
    │     │⢸                           ││epoch             0.25                    │
    │     │⢸                           ││loss              0.9812                  │
    │     │⠈⡆                          ││accuracy          0.5000                  │
    │     │ ⢣                          ││held-out loss     1.4487                  │
    │     │⠐⢸                          ││held-out accuracy 0.6250                  │
    │     │  ⡇                         ││frames exact      0.2500                  │
    │     │  ⢱                         ││best held-out     1.4487 at step 40       │
    │3.47 │ ⠈ ⡇                        ││learning rate     0.003                   │
    │     │  ⠄⢸                        ││gradient norm     1                       │
    │     │   ⡀⢣                       ││speed             2,048 tok/s             │
    │     │   ⠠ ⠣⡀                     ││compute           12.3 GFLOP/s            │
    │     │    ⠁⡀⠑⢄                    ││of the peak       12.3%                   │
    │     │     ⠈⠠⡀⠣⣀   •              ││memory            512 MB                  │
    │     │        ⠑⠄⠑⠢⣀⡀             •││remaining         2 min 0 s               │
    │     │           ⠈⠑⠈⠒⠢⠤⢄⣀         ││tokens            163,840                 │
    │0.949│                 ⠈⠈⠉⠉⠉⠒⠒⠤⠤⠤⢄││trained for       1 min 20 s              │
    │     └────────────────────────────││skipped           1 spike                 │
    │     1                     step 40││                                          │
    └ ⠤ training  • held out ──────────┘└──────────────────────────────────────────┘
    q quit  tab metric  l log axis  t tables  ? help
    ");
    let view = View {
        tables: true,
        ..PLAIN
    };
    insta::assert_snapshot!(drawn(&state(), &view, (80, 13)), @r"
    mine: running [================                        ] 40.0%
    ┌──────────────────────────────────────────────────────────────────────────────┐
    │source                                        loss    acc h.loss  h.acc  exact│
    │idioms                                      0.9812 0.5000                     │
    │wide                                        1.0000 0.7500                     │
    │                                                                              │
    └──────────────────────────────────────────────────────────────────────────────┘
    ┌──────────────────────────────────────────────────────────────────────────────┐
    │kind                                          loss    acc h.loss  h.acc  exact│
    │action                                      0.5000 0.9000 0.7500 0.8750 0.5000│
    │state\u{1b}[2J                                            1.5000 0.7500 0.3750│
    └──────────────────────────────────────────────────────────────────────────────┘
    q quit  tab metric  l log axis  t tables  ? help
    ");
}

#[test]
fn help_lies_over_all() {
    let view = View {
        help: true,
        ..PLAIN
    };
    insta::assert_snapshot!(drawn(&RunState::default(), &view, (60, 18)), @r"
    mine: not started
    ┌──────────────────────────────────────────────────────────┐
    │waiting for the run                                       │
    │    ┌keys────────────────────────────────────────────┐    │
    │    │q       quit (the run goes on)                  │    │
    │    │tab     next metric                             │    │
    │    │⇧tab    metric before                           │    │
    │    │l       logarithmic axis                        │    │
    │    │t       only the tables of sources and kinds    │    │
    │    │?       this help                               │    │
    │    │                                                │    │
    │    │loss and acc are running means of training;     │    │
    │    │h. and exact are the last held-out evaluation;  │    │
    │    │silent: no line for long; the run may be dead   │    │
    │    └────────────────────────────────────────────────┘    │
    │                                                          │
    └──────────────────────────────────────────────────────────┘
    q quit  tab metric  l log axis  t tables  ? help
    ");
}

#[test]
fn a_metric_that_the_log_lacks_says_so() {
    let mut state = RunState::default();
    state.push(&LogEvent::parse(br#"{"event":"start","steps":5}"#).expect("an event"));
    insta::assert_snapshot!(drawn(&state, &PLAIN, (50, 6)), @r"
    mine: running [                           ] 0.0%
    ┌loss, nats──────────────────────────────────────┐
    │the log has none of it yet                      │
    │                                                │
    └────────────────────────────────────────────────┘
    q quit  tab metric  l log axis  t tables  ? help
    ");
}

#[test]
fn curves_differ_by_colour_where_colours_may_be_used() {
    let state = state();
    let curves = Metric::Loss.curves(&state);
    let colours = |colour| -> Vec<Option<Color>> {
        styles(&curves, colour)
            .iter()
            .map(|style| style.fg)
            .collect()
    };
    let expected = [Color::DarkGray, Color::Cyan, Color::Yellow].map(Some);
    assert_eq!(colours(true), expected);
    assert_eq!(colours(false), [None; 3]);
}

#[test]
fn any_size_can_be_drawn() {
    let state = state();
    for size in [(1, 1), (3, 2), (20, 5), (200, 3), (5, 60)] {
        for help in [false, true] {
            drawn(&state, &View { help, ..PLAIN }, size);
            drawn(&RunState::default(), &View { help, ..PLAIN }, size);
        }
    }
}

#[test]
fn the_plain_summary() {
    let state = state();
    let figures = state.figures(Some(Duration::from_secs(3)), None);
    insta::assert_snapshot!(summary("mine", &state, &figures), @r"
    run               mine
    status            running, 3 s ago
    step              40 of 100
    epoch             0.25
    loss              0.9812
    accuracy          0.5000
    held-out loss     1.4487
    held-out accuracy 0.6250
    frames exact      0.2500
    best held-out     1.4487 at step 40
    learning rate     0.003
    gradient norm     1
    speed             2,048 tok/s
    compute           12.3 GFLOP/s
    memory            512 MB
    remaining         2 min 0 s
    tokens            163,840
    trained for       1 min 20 s
    skipped           1 spike

    source                loss     acc  h.loss   h.acc   exact
    idioms              0.9812  0.5000
    wide                1.0000  0.7500

    kind                  loss     acc  h.loss   h.acc   exact
    action              0.5000  0.9000  0.7500  0.8750  0.5000
    state\u{1b}[2J                      1.5000  0.7500  0.3750

    loss and acc: training, running means; h. and exact: held out, the last
    ");
}
