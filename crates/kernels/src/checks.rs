//! Shape checks, shared by the reference and the fast paths so that both accept exactly the same
//! calls. A wrong shape is a programmer's error and panics with every length in the message; once
//! these pass, the kernels may index without checks.

use crate::{AttentionShape, MatMut, MatRef, RopeTable, Span};

pub(crate) fn gemm(c: &MatMut<'_>, a: &MatRef<'_>, b: &MatRef<'_>) {
    assert!(
        a.rows == c.rows && b.cols == c.cols && a.cols == b.rows,
        "gemm shapes disagree: C {}x{} from A {}x{} and B {}x{}",
        c.rows,
        c.cols,
        a.rows,
        a.cols,
        b.rows,
        b.cols
    );
    c.check();
    a.check();
    b.check();
}

pub(crate) fn gemm_packed(c: &MatMut<'_>, a: &MatRef<'_>, b_rows: usize, b_cols: usize) {
    assert!(
        a.rows == c.rows && b_cols == c.cols && a.cols == b_rows,
        "gemm shapes disagree: C {}x{} from A {}x{} and packed B {b_rows}x{b_cols}",
        c.rows,
        c.cols,
        a.rows,
        a.cols
    );
    c.check();
    a.check();
}

pub(crate) fn rms_norm(out: &[f32], x: &[f32], w: &[f32]) {
    assert!(
        !w.is_empty() && out.len() == x.len() && x.len().is_multiple_of(w.len()),
        "rms_norm shapes disagree: out {}, x {}, w {} (wanted whole rows of w's length)",
        out.len(),
        x.len(),
        w.len()
    );
}

pub(crate) fn rms_norm_backward(dx: &[f32], dw: &[f32], dout: &[f32], x: &[f32], w: &[f32]) {
    rms_norm(dx, x, w);
    same_len("rms_norm_backward (dout, x)", &[dout.len(), x.len()]);
    same_len("rms_norm_backward (dw, w)", &[dw.len(), w.len()]);
}

pub(crate) fn rope(
    x: &[f32],
    n_heads: usize,
    head_dim: usize,
    positions: &[u32],
    table: &RopeTable,
) {
    assert!(
        n_heads > 0
            && head_dim == 2 * table.half_dim()
            && head_dim > 0
            && x.len() == positions.len() * n_heads * head_dim,
        "rope shapes disagree: x {}, {} positions, {n_heads} heads of {head_dim}, table of half \
         width {}",
        x.len(),
        positions.len(),
        table.half_dim()
    );
}

pub(crate) fn attention(
    out: &[f32],
    lse: &[f32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    spans: &[Span],
    shape: AttentionShape,
) {
    shape.check();
    let t = spans.len();
    let (q_len, kv_len) = (t * shape.q_width(), t * shape.kv_width());
    assert!(
        q.len() == q_len
            && out.len() == q_len
            && k.len() == kv_len
            && v.len() == kv_len
            && lse.len() == shape.n_heads * t,
        "attention shapes disagree: q {} and out {} (wanted {q_len}), k {} and v {} (wanted \
         {kv_len}), lse {} (wanted {}) for {t} rows of {shape:?}",
        q.len(),
        out.len(),
        k.len(),
        v.len(),
        lse.len(),
        shape.n_heads * t
    );
    for (i, span) in spans.iter().enumerate() {
        span.check(i);
    }
}

pub(crate) fn attention_gradients(
    dq: &[f32],
    dk: &[f32],
    dv: &[f32],
    dout: &[f32],
    t: usize,
    shape: AttentionShape,
) {
    let (q_len, kv_len) = (t * shape.q_width(), t * shape.kv_width());
    assert!(
        dq.len() == q_len && dout.len() == q_len && dk.len() == kv_len && dv.len() == kv_len,
        "attention gradient shapes disagree: dq {} and dout {} (wanted {q_len}), dk {} and dv {} \
         (wanted {kv_len}) for {t} rows of {shape:?}",
        dq.len(),
        dout.len(),
        dk.len(),
        dv.len()
    );
}

/// Returns the vocabulary size.
pub(crate) fn cross_entropy(logits: &[f32], targets: &[u32], weights: &[f32]) -> usize {
    let rows = targets.len();
    let vocabulary = logits.len().checked_div(rows).unwrap_or(1).max(1);
    assert!(
        weights.len() == rows && logits.len() == rows * vocabulary,
        "cross_entropy shapes disagree: {} logits for {rows} targets and {} weights",
        logits.len(),
        weights.len()
    );
    for (i, (&target, &weight)) in targets.iter().zip(weights).enumerate() {
        assert!(
            weight == 0.0 || (target as usize) < vocabulary,
            "target {target} of row {i} is outside the vocabulary of {vocabulary}"
        );
    }
    vocabulary
}

/// Panics unless all lengths agree.
pub(crate) fn same_len(operation: &str, lengths: &[usize]) {
    assert!(
        lengths.windows(2).all(|pair| pair[0] == pair[1]),
        "{operation}: slice lengths disagree: {lengths:?}"
    );
}
