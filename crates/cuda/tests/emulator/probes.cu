// Kernels that do one thing of the emulator each, right or wrong.

#include "common.cuh"

// D [16, 8] += A [16, 16] * B [16, 8] by one warp: A through load_matrix, B through load_matrix_transposed
// from its row-major form, by way of copy_async.
extern "C" __global__ void multiply_tile(float* d, const bf16_t* a, const bf16_t* b) {
    SHARED(bf16_t, tile_a, 256);
    SHARED(bf16_t, tile_b, 256);
    unsigned lane = threadIdx.x;
    copy_async(tile_a + 8 * lane, a + 8 * lane, true);
    copy_async_commit();
    copy_async(tile_b + 8 * lane, b + 8 * (lane % 16), lane < 16);
    copy_async_commit();
    copy_async_wait<0>();
    block_sync();
    // Matrices 0 to 3 are the quarters of A in the order of the fragments: rows first.
    unsigned fragment_a[4], fragment_b[4];
    load_matrix(fragment_a, tile_a + 16 * (lane % 16) + 8 * (lane / 16));
    // B's rows 0..8 and 8..16; the others are the zeros behind it.
    load_matrix_transposed(fragment_b, tile_b + 8 * lane);
    float sums[4];
    unsigned g = lane / 4, t = 2 * (lane % 4);
    for (int i = 0; i < 4; i++) sums[i] = d[8 * (g + 8 * (i / 2)) + t + i % 2];
    const unsigned lower[2] = {fragment_b[0], fragment_b[1]};
    const unsigned upper[2] = {fragment_b[2], fragment_b[3]};
    mma_bf16(sums, fragment_a, lower);
    mma_bf16(sums, fragment_a, upper);
    for (int i = 0; i < 4; i++) d[8 * (g + 8 * (i / 2)) + t + i % 2] = sums[i];
}
KERNEL(multiply_tile)

// Each lane's view of several shuffles; x and out [blocks, threads], out four times.
extern "C" __global__ void shuffles(float* out, const float* x) {
    unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
    out[4 * at] = shuffle_xor(x[at], 5);
    out[4 * at + 1] = shuffle_down(x[at], 3);
    out[4 * at + 2] = shuffle(x[at], (int)(threadIdx.x * 7 % 32));
    out[4 * at + 3] = warp_sum(x[at]);
}
KERNEL(shuffles)

// Sums over a block through both kinds of shared memory, and a neighbour's value of another warp.
extern "C" __global__ void block_values(float* out, const float* x) {
    SHARED(float, scratch, 32);
    DYNAMIC_SHARED(raw);
    float* values = (float*)raw;
    unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
    values[threadIdx.x] = x[at];
    block_sync();
    float neighbour = values[(threadIdx.x + 33) % blockDim.x];
    out[2 * at] = block_sum(x[at], scratch);
    out[2 * at + 1] = neighbour;
}
KERNEL(block_values)

// Waits for the older of two copies only; what the newer one will bring is not there yet.
extern "C" __global__ void early_read(float* out, const float* x) {
    SHARED(float, values, 256);
    float* mine = values + 8 * threadIdx.x;
    copy_async(mine, x + 4 * threadIdx.x, true);
    copy_async_commit();
    copy_async(mine + 4, x + 4 * threadIdx.x, true);
    copy_async_commit();
    copy_async_wait<1>();
    out[2 * threadIdx.x] = mine[0];
    out[2 * threadIdx.x + 1] = mine[4];
}
KERNEL(early_read)

// One mistake each.
extern "C" __global__ void mistake(float* out, unsigned which, const float* nothing) {
    SHARED(float, values, 32);
    unsigned lane = threadIdx.x;
    float x = (float)lane;
    if (which == 0) {  // lanes of a warp part
        if (lane < 16) x = shuffle_xor(x, 1);
    } else if (which == 1) {  // and meet at different functions
        if (lane < 16) x = shuffle_xor(x, 1);
        else warp_sync();
    } else if (which == 2) {  // a warp misses a block_sync
        if (lane < 32) block_sync();
    } else if (which == 3) {  // beyond an array, when the compiler knows its size
        values[lane + 1] = x;
    } else if (which == 4) {  // and when it does not
        float* pointer = values;
        pointer[lane + 1] = x;
    } else if (which == 5) {  // address not aligned
        x = ((const float4*)(out + 1))->x;
    } else if (which == 6) {
        x = *nothing;
    } else if (which == 7) {  // read of what nobody wrote
        x = values[lane];
    } else if (which == 8) {  // beyond an allocation
        out[32 + lane] = x;
    } else if (which == 9) {  // no block_sync between write and read
        values[lane] = x;
        x = values[31 - lane];
    }
    if (lane < 32) out[lane] = x;
}
KERNEL(mistake)
