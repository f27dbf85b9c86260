// One AdamW update; definition in cwm_kernels::reference, of which it has the arithmetic term by term.

#include "common.cuh"

// Of `items` times NUMBERS parameters; copy receives them in bf16. Where ema is not null, it is moved
// towards them by ema_rate. A thread has NUMBERS parameters.
extern "C" __global__ void adamw(float* params, bf16_t* copy, float* first, float* second, float* ema,
                                 const float* grads, unsigned items, float grad_scale, float beta1, float beta2,
                                 float eps, float decay, float step_size, float inverse_root_correction2,
                                 float ema_rate) {
    size_t item = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= items) return;
    size_t i = item * NUMBERS;
    float p[NUMBERS], m[NUMBERS], v[NUMBERS], g[NUMBERS];
    load_numbers(p, params + i);
    load_numbers(m, first + i);
    load_numbers(v, second + i);
    load_numbers(g, grads + i);
    for (int k = 0; k < NUMBERS; k++) {
        float scaled = g[k] * grad_scale;
        m[k] = beta1 * m[k] + (1.0f - beta1) * scaled;
        v[k] = beta2 * v[k] + (1.0f - beta2) * scaled * scaled;
        float denominator = sqrtf(v[k]) * inverse_root_correction2 + eps;
        p[k] = p[k] * decay - step_size * m[k] / denominator;
    }
    store_numbers(params + i, p);
    store_numbers(copy + i, p);
    store_numbers(first + i, m);
    store_numbers(second + i, v);
    if (ema) {
        load_numbers(m, ema + i);
        for (int k = 0; k < NUMBERS; k++) m[k] += ema_rate * (p[k] - m[k]);
        store_numbers(ema + i, m);
    }
}
KERNEL(adamw)
