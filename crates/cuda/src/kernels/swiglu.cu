// The gated activation of the feed-forward block and its gradients; definitions in cwm_kernels::reference.
//
// A row of gate_up is `inner` gates and then as many ups; a thread has NUMBERS of each, of `items` times
// so many in all.

#include "common.cuh"

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// product = silu(gate) * up.
extern "C" __global__ void swiglu(bf16_t* product, const bf16_t* gate_up, unsigned items, unsigned inner) {
    unsigned item = blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= items) return;
    unsigned per_row = inner / NUMBERS;
    size_t row = item / per_row, i = item % per_row * NUMBERS;
    float gate[NUMBERS], up[NUMBERS];
    load_numbers(gate, gate_up + row * 2 * inner + i);
    load_numbers(up, gate_up + row * 2 * inner + inner + i);
    for (int k = 0; k < NUMBERS; k++) up[k] = gate[k] * sigmoid(gate[k]) * up[k];
    store_numbers(product + row * inner + i, up);
}
KERNEL(swiglu)

// d_gate_up, laid out as gate_up, from d_product.
extern "C" __global__ void swiglu_backward(bf16_t* d_gate_up, const bf16_t* d_product, const bf16_t* gate_up,
                                           unsigned items, unsigned inner) {
    unsigned item = blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= items) return;
    unsigned per_row = inner / NUMBERS;
    size_t row = item / per_row, i = item % per_row * NUMBERS;
    float d[NUMBERS], gate[NUMBERS], up[NUMBERS];
    load_numbers(d, d_product + row * inner + i);
    load_numbers(gate, gate_up + row * 2 * inner + i);
    load_numbers(up, gate_up + row * 2 * inner + inner + i);
    for (int k = 0; k < NUMBERS; k++) {
        float g = gate[k], s = sigmoid(g);
        gate[k] = d[k] * up[k] * s * (1.0f + g * (1.0f - s));
        up[k] = d[k] * g * s;
    }
    store_numbers(d_gate_up + row * 2 * inner + i, gate);
    store_numbers(d_gate_up + row * 2 * inner + inner + i, up);
}
KERNEL(swiglu_backward)
