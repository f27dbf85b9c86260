//! Rows: spans, windows and positions, and how misfits are refused.

mod common;

use common::{lively_model, prefix_row, tiny_config};
use cwm_model::{
    Error, Model, Row, RowError, Span, Target, Workspace, causal_spans, packed_spans, window_spans,
};
use proptest::prelude::*;

fn span(prefix_start: u32, prefix_end: u32, start: u32) -> Span {
    Span {
        prefix_start,
        prefix_end,
        start,
    }
}

#[test]
fn packed_documents_restart() {
    let (positions, spans) = packed_spans(&[2, 0, 3]);
    assert_eq!(positions, [0, 1, 0, 1, 2]);
    let starts: Vec<u32> = spans.iter().map(|span| span.start).collect();
    assert_eq!(starts, [0, 0, 2, 2, 2]);
    assert_eq!(causal_spans(3), packed_spans(&[3]).1);
}

#[test]
fn fresh_weights_follow_the_seed_and_the_rule() {
    let mut config = tiny_config(false);
    (config.hidden_size, config.intermediate_size) = (64, 96);
    let model = Model::init(config.clone(), 1);
    assert_eq!(model.params, Model::init(config.clone(), 1).params);
    assert_ne!(model.params, Model::init(config, 2).params);
    for tensor in model.layout.tensors() {
        let values = &model.params[tensor.range()];
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let square = values
            .iter()
            .map(|&v| (f64::from(v) - mean).powi(2))
            .sum::<f64>()
            / n;
        let writes_residual = ["o_proj", "down_proj"]
            .iter()
            .any(|p| tensor.name.contains(p));
        let expected = match (tensor.is_matrix(), writes_residual) {
            (false, _) => 0.0,
            (true, false) => 0.02,
            (true, true) => 0.02 / 6.0_f64.sqrt(),
        };
        let tolerance = 0.1 * expected;
        assert!(
            (square.sqrt() - expected).abs() <= tolerance,
            "{}",
            tensor.name
        );
        assert!(tensor.is_matrix() || mean == 1.0);
    }
}

/// What a query sees through a window, by definition, is what the narrowed
/// span says.
#[test]
fn windows_narrow_both_ranges() {
    let row = prefix_row(19, 1);
    for window in 1..12 {
        let mut narrowed = Vec::new();
        window_spans(&mut narrowed, &row.spans, &row.positions, window);
        for (query, &narrow) in narrowed.iter().enumerate() {
            let keys = |span: Span| {
                let prefix = span.prefix_start..span.prefix_end;
                prefix.chain(span.start..query as u32 + 1)
            };
            let near =
                |key: &u32| row.positions[query] - row.positions[*key as usize] < window as u32;
            let expected: Vec<u32> = keys(row.spans[query]).filter(near).collect();
            let found: Vec<u32> = keys(narrow).collect();
            assert_eq!(found, expected, "query {query}, window {window}");
        }
    }
}

#[test]
fn misfits_are_refused() {
    let model = lively_model(tiny_config(false), 1);
    let good = prefix_row(19, 1);
    let refusal = |change: fn(&mut common::OwnedRow)| -> Option<RowError> {
        let mut row = prefix_row(19, 1);
        change(&mut row);
        match model.loss(&row.view(), &mut Workspace::new()) {
            Err(Error::Row(error)) => Some(error),
            Err(other) => panic!("{other}"),
            Ok(_) => None,
        }
    };
    assert_eq!(refusal(|_| ()), None);
    let empty = |row: &mut common::OwnedRow| {
        (row.ids, row.positions, row.spans) = (Vec::new(), Vec::new(), Vec::new());
    };
    assert_eq!(refusal(empty), Some(RowError::Empty));
    let n = good.ids.len();
    assert_eq!(
        refusal(|row| row.spans.truncate(21)),
        Some(RowError::Length {
            what: "spans",
            ids: n,
            found: n - 1
        })
    );
    assert_eq!(
        refusal(|row| row.ids[3] = 19),
        Some(RowError::Id {
            index: 3,
            id: 19,
            vocab_size: 19
        })
    );
    assert_eq!(
        refusal(|row| row.positions[21] = 64),
        Some(RowError::Position {
            index: 21,
            position: 64,
            max: 64
        })
    );
    assert_eq!(
        refusal(|row| row.spans[5] = span(0, 6, 5)),
        Some(RowError::Span {
            index: 5,
            span: span(0, 6, 5)
        })
    );
    assert_eq!(
        refusal(|row| row.spans[5] = span(0, 0, 6)),
        Some(RowError::Span {
            index: 5,
            span: span(0, 0, 6)
        })
    );
    assert_eq!(
        refusal(|row| row.positions[8] = 6),
        Some(RowError::Descending { index: 8, fall: 8 })
    );
    assert_eq!(
        refusal(|row| row.positions[2] = 0),
        Some(RowError::Descending { index: 2, fall: 2 })
    );
    let far = |row: &mut common::OwnedRow| row.targets[1].row = 22;
    assert!(matches!(
        refusal(far),
        Some(RowError::Target {
            index: 1,
            row: 22,
            ..
        })
    ));
    let mut grads = vec![0.0; 3];
    let error = model.forward_backward(&good.view(), 1.0, &mut grads, &mut Workspace::new());
    assert!(matches!(error, Err(Error::GradientLength { found: 3, .. })));
}

#[test]
fn a_row_without_targets_costs_nothing() {
    let model = lively_model(tiny_config(false), 1);
    let row = prefix_row(19, 1);
    let row = Row {
        targets: &[],
        ..row.view()
    };
    let mut grads = vec![0.0; model.params.len()];
    let loss = model.forward_backward(&row, 1.0, &mut grads, &mut Workspace::new());
    assert_eq!(loss.expect("a valid row"), cwm_model::RowLoss::default());
    assert!(grads.iter().all(|&gradient| gradient == 0.0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any row at all is run or refused.
    #[test]
    fn any_row_is_run_or_refused(
        tokens in prop::collection::vec((0..21_u32, 0..66_u32, 0..9_u32, 0..9_u32, 0..9_u32), 0..8),
        targets in prop::collection::vec((0..9_u32, 0..20_u32), 0..4),
    ) {
        let model = lively_model(tiny_config(true), 1);
        let ids: Vec<u32> = tokens.iter().map(|t| t.0).collect();
        let positions: Vec<u32> = tokens.iter().map(|t| t.1).collect();
        let spans: Vec<Span> = tokens.iter().map(|t| span(t.2, t.3, t.4)).collect();
        let targets: Vec<Target> = targets
            .iter()
            .map(|&(row, id)| Target { row, id, weight: 1.0 })
            .collect();
        let row = Row { ids: &ids, positions: &positions, spans: &spans, targets: &targets };
        let mut grads = vec![0.0; model.params.len()];
        let found = model.forward_backward(&row, 1.0, &mut grads, &mut Workspace::new());
        if let Ok(loss) = found {
            prop_assert!(loss.loss_sum.is_finite());
            prop_assert!(grads.iter().all(|gradient| gradient.is_finite()));
        }
    }
}
