// RMS normalisation of rows and its gradients; definitions in cwm_kernels::reference.
//
// A block has a row at a time, a thread NUMBERS columns at a time. Sums are in f32, in an order that only
// the width and the number of blocks decide.

#include "common.cuh"

// out = x * weight * inverse, where inverse[row] = 1 / sqrt(mean(x²) + eps). A block per row.
extern "C" __global__ void rms_norm(bf16_t* out, float* inverse, const float* x, const float* weight,
                                    unsigned width, float eps) {
    SHARED(float, scratch, 32);
    x += (size_t)blockIdx.x * width;
    out += (size_t)blockIdx.x * width;
    float sum = 0.0f;
    for (unsigned i = NUMBERS * threadIdx.x; i < width; i += NUMBERS * blockDim.x) {
        float numbers[NUMBERS];
        load_numbers(numbers, x + i);
        for (int k = 0; k < NUMBERS; k++) sum += numbers[k] * numbers[k];
    }
    float r = 1.0f / sqrtf(block_sum(sum, scratch) / (float)width + eps);
    for (unsigned i = NUMBERS * threadIdx.x; i < width; i += NUMBERS * blockDim.x) {
        float numbers[NUMBERS], weights[NUMBERS];
        load_numbers(numbers, x + i);
        load_numbers(weights, weight + i);
        for (int k = 0; k < NUMBERS; k++) numbers[k] = numbers[k] * r * weights[k];
        store_numbers(out + i, numbers);
    }
    if (threadIdx.x == 0) inverse[blockIdx.x] = r;
}
KERNEL(rms_norm)

// dx += the gradient of x; partial[block] = the sum of the gradients of the weight over the block's rows,
// which are every gridDim.x-th. Dynamic shared memory: `width` floats, each of one thread alone.
extern "C" __global__ void rms_norm_backward(float* dx, float* partial, const bf16_t* d_out, const float* x,
                                             const float* inverse, const float* weight, unsigned rows,
                                             unsigned width) {
    SHARED(float, scratch, 32);
    DYNAMIC_SHARED(raw);
    float* d_weight = (float*)raw;
    for (unsigned i = NUMBERS * threadIdx.x; i < width; i += NUMBERS * blockDim.x) {
        for (int k = 0; k < NUMBERS; k++) d_weight[i + k] = 0.0f;
    }
    float d[NUMBERS], numbers[NUMBERS], weights[NUMBERS], sums[NUMBERS];
    for (unsigned row = blockIdx.x; row < rows; row += gridDim.x) {
        size_t first = (size_t)row * width;
        float inner = 0.0f;
        for (unsigned i = NUMBERS * threadIdx.x; i < width; i += NUMBERS * blockDim.x) {
            load_numbers(d, d_out + first + i);
            load_numbers(numbers, x + first + i);
            load_numbers(weights, weight + i);
            for (int k = 0; k < NUMBERS; k++) inner += d[k] * weights[k] * numbers[k];
        }
        float r = inverse[row];
        float common = r * r * r / (float)width * block_sum(inner, scratch);
        for (unsigned i = NUMBERS * threadIdx.x; i < width; i += NUMBERS * blockDim.x) {
            load_numbers(d, d_out + first + i);
            load_numbers(numbers, x + first + i);
            load_numbers(sums, d_weight + i);
            for (int k = 0; k < NUMBERS; k++) sums[k] += d[k] * numbers[k] * r;
            store_numbers(d_weight + i, sums);
            load_numbers(weights, weight + i);
            load_numbers(sums, dx + first + i);
            for (int k = 0; k < NUMBERS; k++) sums[k] += d[k] * weights[k] * r - numbers[k] * common;
            store_numbers(dx + first + i, sums);
        }
    }
    for (unsigned i = NUMBERS * threadIdx.x; i < width; i += NUMBERS * blockDim.x) {
        load_numbers(sums, d_weight + i);
        store_numbers(partial + (size_t)blockIdx.x * width + i, sums);
    }
}
KERNEL(rms_norm_backward)

// grads += the sum of the rows of partial [n_partial, width]. A block of 256 threads has 32 columns; each
// of its warps adds every eighth row, and the first warp what they found.
extern "C" __global__ void add_partial(float* grads, const float* partial, unsigned n_partial, unsigned width) {
    SHARED(float, sums, 256);
    unsigned column = blockIdx.x * 32 + threadIdx.x % 32;
    float sum = 0.0f;
    if (column < width) {
        for (unsigned row = threadIdx.x / 32; row < n_partial; row += 8) sum += partial[(size_t)row * width + column];
    }
    sums[threadIdx.x] = sum;
    block_sync();
    if (threadIdx.x < 32 && column < width) {
        for (int warp = 1; warp < 8; warp++) sum += sums[32 * warp + threadIdx.x];
        grads[column] += sum;
    }
}
KERNEL(add_partial)
