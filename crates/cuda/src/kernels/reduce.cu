// The sum of squares of many numbers, in f64, in an order that only their number decides.

#include "common.cuh"

// Over a block of 256 threads; the first thread receives it. `scratch` is 8 doubles.
__device__ __forceinline__ double block_total(double x, double* scratch) {
    for (int mask = 16; mask > 0; mask >>= 1) x += shuffle_xor(x, mask);
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
    block_sync();
    double total = 0.0;
    for (int warp = 0; warp < 8; warp++) total += scratch[warp];
    return total;
}

// partial[block] = the sum over its share of `items` times NUMBERS numbers.
extern "C" __global__ void sum_of_squares(double* partial, const float* x, unsigned items) {
    SHARED(double, scratch, 8);
    double sum = 0.0;
    for (size_t item = blockIdx.x * blockDim.x + threadIdx.x; item < items; item += gridDim.x * blockDim.x) {
        float numbers[NUMBERS];
        load_numbers(numbers, x + item * NUMBERS);
        for (int k = 0; k < NUMBERS; k++) sum += (double)numbers[k] * (double)numbers[k];
    }
    sum = block_total(sum, scratch);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}
KERNEL(sum_of_squares)

// out[0] = the sum of n numbers, by one block.
extern "C" __global__ void total(double* out, const double* x, unsigned n) {
    SHARED(double, scratch, 8);
    double sum = 0.0;
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
    sum = block_total(sum, scratch);
    if (threadIdx.x == 0) out[0] = sum;
}
KERNEL(total)
