//! Sums of rows that lie anywhere. Numbers are whole, so that every order gives the same sums exactly.

use cwm_cuda::ops::{NO_SOURCE, SegmentLists, Segments, gather_sum, segment_sum};

use super::*;

#[test]
fn rows_are_sums_of_their_sources() {
    let Some(gpu) = open() else { return };
    for (rows, width) in ROWS
        .into_iter()
        .flat_map(|rows| WIDTHS.map(|width| (rows, width)))
    {
        let table = numbers(20 * width, 1);
        let n_sources = 3;
        // Offsets of all alignments, the last rows of the table, and none; a row may have no source.
        let sources: Vec<u32> = (0..rows * n_sources)
            .map(|at| match at * 7 % 5 {
                0 | 3 => NO_SOURCE,
                1 => (19 * width) as u32,
                _ => (at * 13 % (18 * width)) as u32,
            })
            .collect();
        let mut out = poison(&gpu, rows * width);
        gather_sum(
            &mut out,
            &gpu.upload(&table).unwrap(),
            &gpu.upload(&sources).unwrap(),
            n_sources,
            rows,
            width,
        )
        .unwrap();
        let cell = |at: usize| -> f32 {
            let sources = &sources[at / width * n_sources..][..n_sources];
            let terms = sources.iter().filter(|&&source| source != NO_SOURCE);
            terms
                .map(|&source| table[source as usize + at % width])
                .sum()
        };
        let expected: Vec<f32> = (0..rows * width).map(cell).collect();
        assert_eq!(floats(&out), expected, "{rows} x {width}");
    }
}

#[test]
fn a_source_beyond_the_table_gives_nan() {
    let Some(gpu) = open() else { return };
    let table = gpu.upload(&numbers(40, 2)).unwrap();
    let sources = gpu.upload(&[32u32, 33, NO_SOURCE - 1]).unwrap();
    let mut out = poison(&gpu, 24);
    gather_sum(&mut out, &table, &sources, 1, 3, 8).unwrap();
    let found = floats(&out);
    assert_eq!(found[..8], numbers(40, 2)[32..]);
    assert!(found[8..].iter().all(|value| value.is_nan()));
}

#[test]
fn rows_are_added_to_their_destinations() {
    let Some(gpu) = open() else { return };
    for (rows, width) in [1, 3, 37, 200]
        .into_iter()
        .flat_map(|rows| WIDTHS.map(|width| (rows, width)))
    {
        for shift in [0, 3] {
            let source = numbers(rows * width, 3);
            let mut destination = numbers(9 * width + shift, 4);
            // Most rows go to one place, which then has several chunks; some rows go nowhere.
            let place = |row: usize| if row % 4 == 3 { row % 9 } else { 5 };
            let pairs: Vec<(u32, u32)> = (0..rows)
                .filter(|row| row % 11 != 10)
                .map(|row| ((place(row) * width + shift) as u32, row as u32))
                .collect();
            let lists = SegmentLists::new(pairs.iter().copied());
            let segments = Segments::new(&gpu, &lists).unwrap();
            let mut device_destination = gpu.upload(&destination).unwrap();
            let mut partial = poison(&gpu, segments.partial_len(width));
            let device_source = gpu.upload(&source).unwrap();
            segment_sum(
                &mut device_destination,
                &device_source,
                &segments,
                width,
                &mut partial,
            )
            .unwrap();
            for (to, row) in pairs {
                for column in 0..width {
                    destination[to as usize + column] += source[row as usize * width + column];
                }
            }
            let found = floats(&device_destination);
            assert_eq!(found, destination, "{rows} x {width}, places from {shift}");
        }
    }
}

#[test]
fn no_rows_change_nothing() {
    let Some(gpu) = open() else { return };
    let mut destination = gpu.upload(&[1.0f32; 8]).unwrap();
    let segments = Segments::new(&gpu, &SegmentLists::new(std::iter::empty())).unwrap();
    let source = gpu.zeros(0).unwrap();
    let mut partial = gpu.zeros(0).unwrap();
    segment_sum(&mut destination, &source, &segments, 8, &mut partial).unwrap();
    assert_eq!(floats(&destination), [1.0; 8]);
}
