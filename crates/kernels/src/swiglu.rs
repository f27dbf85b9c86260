//! The activation of the MLP, on the widest vector unit there is.

use crate::simd::{Simd, exp, on_unit};

/// `out = gate * sigmoid(gate) * up`, of slices of one length.
pub(crate) fn swiglu(out: &mut [f32], gate: &[f32], up: &[f32]) {
    // SAFETY: the kernel asks for nothing but the unit, which the processor has.
    unsafe {
        on_unit!(all(out: &mut [f32] = out, gate: &[f32] = gate, up: &[f32] = up));
    }
}

/// # Safety
/// The processor has the unit.
#[inline(always)]
unsafe fn all<S: Simd>(out: &mut [f32], gate: &[f32], up: &[f32]) {
    let mut outs = out.chunks_exact_mut(S::LANES);
    let (mut gates, mut ups) = (gate.chunks_exact(S::LANES), up.chunks_exact(S::LANES));
    for ((out, gate), up) in (&mut outs).zip(&mut gates).zip(&mut ups) {
        // SAFETY: passed on from the caller; each chunk is a vector.
        unsafe { vector::<S>(out.as_mut_ptr(), gate.as_ptr(), up.as_ptr()) }
    }
    let rest = outs.into_remainder();
    if rest.is_empty() {
        return;
    }
    let (mut padded, mut factors) = ([0f32; 16], [0f32; 16]);
    padded[..rest.len()].copy_from_slice(gates.remainder());
    factors[..rest.len()].copy_from_slice(ups.remainder());
    let mut result = [0f32; 16];
    // SAFETY: passed on from the caller; no unit has more than 16 lanes.
    unsafe { vector::<S>(result.as_mut_ptr(), padded.as_ptr(), factors.as_ptr()) }
    rest.copy_from_slice(&result[..rest.len()]);
}

/// # Safety
/// The processor has the unit; the pointers are good for a vector.
#[inline(always)]
unsafe fn vector<S: Simd>(out: *mut f32, gate: *const f32, up: *const f32) {
    // SAFETY: passed on from the caller.
    unsafe {
        let (one, gate) = (S::splat(1.0), S::load(gate));
        let e = exp::<S>(S::sub(S::splat(0.0), gate));
        let sigmoid = S::div(one, S::add(one, e));
        S::store(out, S::mul(S::mul(gate, sigmoid), S::load(up)));
    }
}
