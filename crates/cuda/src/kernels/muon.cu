// What a step of Muon does besides matrix products: crates/train/src/muon.rs has its definition.
//
// A thread has NUMBERS numbers, of `items` times so many in all.

#include "common.cuh"

// The momentum follows the gradient; update is the gradient of Nesterov's rule.
extern "C" __global__ void muon_momentum(float* update, float* momentum, const float* grads, unsigned items,
                                         float grad_scale, float keep) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * NUMBERS;
    if (i >= (size_t)items * NUMBERS) return;
    float m[NUMBERS], g[NUMBERS];
    load_numbers(m, momentum + i);
    load_numbers(g, grads + i);
    for (int k = 0; k < NUMBERS; k++) {
        g[k] *= grad_scale;
        m[k] += (1.0f - keep) * (g[k] - m[k]);
        g[k] += keep * (m[k] - g[k]);
    }
    store_numbers(momentum + i, m);
    store_numbers(update + i, g);
}
KERNEL(muon_momentum)

// x = update / |update|, of which the square is in device memory.
extern "C" __global__ void muon_normalize(bf16_t* x, const float* update, const double* square, unsigned items) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * NUMBERS;
    if (i >= (size_t)items * NUMBERS) return;
    float factor = 1.0f / ((float)sqrt(square[0]) + 1e-7f);
    float numbers[NUMBERS];
    load_numbers(numbers, update + i);
    for (int k = 0; k < NUMBERS; k++) numbers[k] *= factor;
    store_numbers(x + i, numbers);
}
KERNEL(muon_normalize)

// polynomial = a * identity + b * gram + c * square, of n columns.
extern "C" __global__ void muon_polynomial(bf16_t* polynomial, const float* gram, const float* square,
                                           unsigned items, unsigned n, float a, float b, float c) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * NUMBERS;
    if (i >= (size_t)items * NUMBERS) return;
    float g[NUMBERS], s[NUMBERS];
    load_numbers(g, gram + i);
    load_numbers(s, square + i);
    unsigned row = (unsigned)i / n, column = (unsigned)i % n;  // NUMBERS are in one row
    for (int k = 0; k < NUMBERS; k++) {
        s[k] = b * g[k] + c * s[k];
        if (row == column + k) s[k] += a;
    }
    store_numbers(polynomial + i, s);
}
KERNEL(muon_polynomial)

// params = params * keep - rate * update; copy receives them in bf16. Where ema is not null, it is moved
// towards them by ema_rate.
extern "C" __global__ void muon_update(float* params, bf16_t* copy, float* ema, const float* update, unsigned items,
                                       float keep, float rate, float ema_rate) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * NUMBERS;
    if (i >= (size_t)items * NUMBERS) return;
    float p[NUMBERS], u[NUMBERS];
    load_numbers(p, params + i);
    load_numbers(u, update + i);
    for (int k = 0; k < NUMBERS; k++) p[k] = p[k] * keep - rate * u[k];
    store_numbers(params + i, p);
    store_numbers(copy + i, p);
    if (ema) {
        load_numbers(u, ema + i);
        for (int k = 0; k < NUMBERS; k++) u[k] += ema_rate * (p[k] - u[k]);
        store_numbers(ema + i, u);
    }
}
KERNEL(muon_update)
