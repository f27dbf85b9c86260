//! Normalisation, rotary embedding and the gated activation.

use cwm_cuda::ops::{norm_partial_len, rms_norm, rms_norm_backward, rope, swiglu, swiglu_backward};
use cwm_kernels::{Direction, RopeTable, reference};

use super::*;

const EPS: f32 = 1e-5;

#[test]
fn normalised_rows_and_their_inverse() {
    let Some(gpu) = open() else { return };
    for (rows, width) in ROWS
        .into_iter()
        .flat_map(|rows| WIDTHS.map(|width| (rows, width)))
    {
        for start in [0, 5, 16] {
            let what = format!("{rows} x {width}, weight from {start}");
            let x = noise(rows * width, 1);
            let params = noise(start + width + 3, 2);
            let weight = start..start + width;
            let mut out = half_poison(&gpu, rows * width);
            let mut inverse = poison(&gpu, rows);
            rms_norm(
                &mut out,
                &mut inverse,
                &gpu.upload(&x).unwrap(),
                &gpu.upload(&params).unwrap(),
                weight.clone(),
                rows,
                EPS,
            )
            .unwrap();
            let mut expected = vec![0.0; rows * width];
            reference::rms_norm(&mut expected, &x, &params[weight], EPS);
            assert_close(&what, &half_floats(&out), &expected, BF16, 0.0);
            let expected: Vec<f32> = (x.chunks(width))
                .map(|row| {
                    let mean = reference::sum_of_squares(row) / width as f64;
                    (1.0 / (mean + f64::from(EPS)).sqrt()) as f32
                })
                .collect();
            assert_close(&what, &floats(&inverse), &expected, F32, 0.0);
        }
    }
}

#[test]
fn gradients_of_normalised_rows_are_added() {
    let Some(gpu) = open() else { return };
    for (rows, width) in ROWS
        .into_iter()
        .flat_map(|rows| WIDTHS.map(|width| (rows, width)))
    {
        // One block for all rows, and as many as the device wants.
        for partial_len in [width, norm_partial_len(&gpu, width)] {
            let what = format!("{rows} x {width}, partial sums {partial_len}");
            let (x, d_out) = (noise(rows * width, 1), half_noise(rows * width, 2));
            let start = if width % 8 == 0 { 8 } else { 3 };
            let params = noise(start + width, 3);
            let weight = start..start + width;
            let (mut dx, mut grads) = (noise(rows * width, 4), noise(start + width, 5));
            let device_x = gpu.upload(&x).unwrap();
            let device_params = gpu.upload(&params).unwrap();
            let mut device_dx = gpu.upload(&dx).unwrap();
            let mut device_grads = gpu.upload(&grads).unwrap();
            let mut inverse = poison(&gpu, rows);
            let mut out = half_poison(&gpu, rows * width);
            rms_norm(
                &mut out,
                &mut inverse,
                &device_x,
                &device_params,
                weight.clone(),
                rows,
                EPS,
            )
            .unwrap();
            rms_norm_backward(
                &mut device_dx,
                &mut device_grads,
                &gpu.upload(&halves(&d_out)).unwrap(),
                &device_x,
                &inverse,
                &device_params,
                weight.clone(),
                rows,
                &mut poison(&gpu, partial_len),
            )
            .unwrap();
            let d_weight = &mut grads[weight.clone()];
            reference::rms_norm_backward(&mut dx, d_weight, &d_out, &x, &params[weight], EPS);
            assert_close(&what, &floats(&device_dx), &dx, F32, F32);
            // Terms of up to 2 cancel in a sum of up to 37.
            assert_close(&what, &floats(&device_grads), &grads, F32, 5.0 * F32);
        }
    }
}

#[test]
fn heads_are_turned_and_turned_back() {
    let Some(gpu) = open() else { return };
    for (n_heads, head_dim, rest) in [(1, 8, 0), (3, 6, 5), (3, 16, 8), (5, 64, 64), (2, 40, 8)] {
        for rows in ROWS {
            let what = format!("{rows} rows of {n_heads} heads of {head_dim} and {rest} more");
            let inverse_frequencies: Vec<f32> =
                (0..head_dim / 2).map(|j| 0.7f32.powi(j as i32)).collect();
            let table = RopeTable::new(&inverse_frequencies, 50);
            let (mut cos, mut sin) = (Vec::new(), Vec::new());
            for position in 0..50 {
                let (row_cos, row_sin) = table.row(position);
                cos.extend_from_slice(row_cos);
                sin.extend_from_slice(row_sin);
            }
            let (cos, sin) = (gpu.upload(&cos).unwrap(), gpu.upload(&sin).unwrap());
            let positions: Vec<u32> = (0..rows as u32).map(|row| row * 7 % 50).collect();
            let device_positions = gpu.upload(&positions).unwrap();
            let (heads, row_width) = (n_heads * head_dim, n_heads * head_dim + rest);
            let x = half_noise(rows * row_width, 6);
            for direction in [Direction::Forward, Direction::Backward] {
                let mut device_x = gpu.upload(&halves(&x)).unwrap();
                rope(
                    &mut device_x,
                    row_width,
                    n_heads,
                    head_dim,
                    &device_positions,
                    &cos,
                    &sin,
                    rows,
                    direction,
                )
                .unwrap();
                let found = half_floats(&device_x);
                for (row, &position) in positions.iter().enumerate() {
                    let mut expected = x[row * row_width..][..row_width].to_vec();
                    let turned = &mut expected[..heads];
                    reference::rope(turned, n_heads, head_dim, &[position], &table, direction);
                    let found = &found[row * row_width..][..row_width];
                    // Two products of up to 1 may cancel.
                    assert_close(&what, &found[..heads], &expected[..heads], BF16, 1e-6);
                    assert_eq!(found[heads..], expected[heads..], "{what}: the rest stays");
                }
            }
        }
    }
}

#[test]
fn a_position_outside_the_tables_gives_nan() {
    let Some(gpu) = open() else { return };
    let table = gpu.upload(&[0.5f32; 12]).unwrap();
    let mut x = gpu.upload(&halves(&[1.0; 16])).unwrap();
    let positions = gpu.upload(&[2u32, 3]).unwrap();
    rope(
        &mut x,
        8,
        1,
        8,
        &positions,
        &table,
        &table,
        2,
        Direction::Forward,
    )
    .unwrap();
    let found = half_floats(&x);
    assert_eq!(found[..8], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    assert!(found[8..].iter().all(|value| value.is_nan()));
}

#[test]
fn the_gated_activation_and_its_gradients() {
    let Some(gpu) = open() else { return };
    for (rows, inner) in ROWS
        .into_iter()
        .flat_map(|rows| WIDTHS.map(|inner| (rows, inner)))
    {
        let what = format!("{rows} x {inner}");
        // Up to 12, where the gate is open to the last bit, and down to -12, where it is shut.
        let gate_up: Vec<f32> = half_noise(2 * rows * inner, 7)
            .iter()
            .map(|x| x * 12.0)
            .collect();
        let gate_up = widen(&halves(&gate_up));
        let d_product = half_noise(rows * inner, 8);
        let device_gate_up = gpu.upload(&halves(&gate_up)).unwrap();
        let mut product = half_poison(&gpu, rows * inner);
        let mut d_gate_up = half_poison(&gpu, 2 * rows * inner);
        swiglu(&mut product, &device_gate_up, rows, inner).unwrap();
        let device_d = gpu.upload(&halves(&d_product)).unwrap();
        swiglu_backward(&mut d_gate_up, &device_d, &device_gate_up, rows, inner).unwrap();
        let (found, found_d) = (half_floats(&product), half_floats(&d_gate_up));
        for row in 0..rows {
            let (gate, up) = gate_up[row * 2 * inner..][..2 * inner].split_at(inner);
            let mut expected = vec![0.0; inner];
            reference::swiglu(&mut expected, gate, up);
            assert_close(
                &what,
                &found[row * inner..][..inner],
                &expected,
                BF16,
                1e-30,
            );
            let (mut d_gate, mut d_up) = (vec![0.0; inner], vec![0.0; inner]);
            let d = &d_product[row * inner..][..inner];
            reference::swiglu_backward(&mut d_gate, &mut d_up, d, gate, up);
            let expected = [d_gate, d_up].concat();
            let found = &found_d[row * 2 * inner..][..2 * inner];
            // 1 + g * (1 - s) passes 0, where it has the error of f32 near 1, times up to 12.
            assert_close(&what, found, &expected, BF16, F32);
        }
    }
}
