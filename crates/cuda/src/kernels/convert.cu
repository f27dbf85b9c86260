// Numbers from one type to another.

#include "common.cuh"

// out[i] = x[i] to the nearest bf16, ties to even, for i < n. A block converts 4 * blockDim.x numbers.
extern "C" __global__ void convert_to_bf16(bf16_t* out, const float* x, unsigned n) {
    unsigned i = blockIdx.x * (4 * blockDim.x) + threadIdx.x;
    for (int round = 0; round < 4; round++, i += blockDim.x) {
        if (i < n) out[i] = to_bf16(x[i]);
    }
}
KERNEL(convert_to_bf16)
