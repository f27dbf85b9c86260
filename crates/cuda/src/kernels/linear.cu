// Products with a matrix of weights whose every row of results has the same bits whatever rows are beside
// it: out[rows, n] = x[rows, k] * W[n, k]ᵀ.
//
// A number of the result is summed over slabs of 32 along k, those of a warp in their order and then the
// four warps in theirs; neither depends on the number of rows. Meant for few rows, where the time is that
// of reading W once: nothing is staged, each lane loads 16 bytes of a row of W and of x at a time.
//
// k is a multiple of 8. A block has 16 columns and 64 rows; grid: columns over 16, rows over 64.

#include "common.cuh"

#define WARPS 4
#define COLUMNS 16
#define ROW_TILES 4
#define SLAB 32

// Eight numbers of a row, or zeros.
__device__ __forceinline__ uint4 load_eight(const bf16_t* row, unsigned at, bool is_there) {
    return is_there ? *(const uint4*)(row + at) : make_uint4(0, 0, 0, 0);
}

// The sums of this block, of which thread t has those at t, t + 128, ... of [64, 16], in `sums`.
//
// A lane loads the numbers 8t to 8t + 7 of a slab, t being lane % 4. What mma_bf16 calls its columns 2t,
// 2t + 1, 2t + 8 and 2t + 9 are the first four of them and then the last four: the order along k is
// another than in memory, the same one for both operands.
__device__ __forceinline__ void block_product(float (&sums)[ROW_TILES * 2], float* shared, const bf16_t* x,
                                              const bf16_t* weight, unsigned rows, unsigned n, unsigned k) {
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4;
    const unsigned first_column = blockIdx.x * COLUMNS, first_row = blockIdx.y * 16 * ROW_TILES;
    float d[ROW_TILES][2][4];
#pragma unroll
    for (int tile = 0; tile < ROW_TILES; tile++)
        for (int i = 0; i < 4; i++) d[tile][0][i] = d[tile][1][i] = 0.0f;
    const bool is_low = first_column + g < n, is_high = first_column + g + 8 < n;
    const bf16_t* low = weight + (size_t)(first_column + g) * k;
    const bf16_t* high = low + (size_t)8 * k;
    for (unsigned slab = warp * SLAB; slab < k; slab += WARPS * SLAB) {
        const unsigned at = slab + lane % 4 * 8;
        const bool is_inside = at < k;
        const uint4 w[2] = {load_eight(low, at, is_inside && is_low), load_eight(high, at, is_inside && is_high)};
#pragma unroll
        for (int tile = 0; tile < ROW_TILES; tile++) {
            const unsigned row = first_row + tile * 16 + g;
            if (first_row + tile * 16 >= rows) continue;
            const uint4 upper = load_eight(x + (size_t)row * k, at, is_inside && row < rows);
            const uint4 lower = load_eight(x + (size_t)(row + 8) * k, at, is_inside && row + 8 < rows);
            const unsigned a[2][4] = {{upper.x, lower.x, upper.y, lower.y}, {upper.z, lower.z, upper.w, lower.w}};
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const unsigned b[2][2] = {{w[j].x, w[j].y}, {w[j].z, w[j].w}};
                mma_bf16(d[tile][j], a[0], b[0]);
                mma_bf16(d[tile][j], a[1], b[1]);
            }
        }
    }
    float* own = shared + warp * 16 * ROW_TILES * COLUMNS;
#pragma unroll
    for (int tile = 0; tile < ROW_TILES; tile++)
        for (int j = 0; j < 2; j++)
            for (int i = 0; i < 4; i++)
                own[(tile * 16 + g + i / 2 * 8) * COLUMNS + j * 8 + lane % 4 * 2 + i % 2] = d[tile][j][i];
    block_sync();
#pragma unroll
    for (int i = 0; i < ROW_TILES * 2; i++) {
        const unsigned at = threadIdx.x + i * 32 * WARPS;
        sums[i] = 0.0f;
        for (int from = 0; from < WARPS; from++) sums[i] += shared[from * 16 * ROW_TILES * COLUMNS + at];
    }
}

// Where sum i of a thread belongs in a result of `n` columns; false where the result does not have it.
__device__ __forceinline__ bool place_of(size_t* place, int i, unsigned rows, unsigned n) {
    const unsigned at = threadIdx.x + i * 32 * WARPS;
    const unsigned row = blockIdx.y * 16 * ROW_TILES + at / COLUMNS, column = blockIdx.x * COLUMNS + at % COLUMNS;
    *place = (size_t)row * n + column;
    return row < rows && column < n;
}

extern "C" __global__ void __launch_bounds__(128)
    linear(float* out, const bf16_t* x, const bf16_t* weight, unsigned rows, unsigned n, unsigned k) {
    SHARED(float, shared, WARPS * 16 * ROW_TILES * COLUMNS);
    float sums[ROW_TILES * 2];
    block_product(sums, shared, x, weight, rows, n, k);
    for (int i = 0; i < ROW_TILES * 2; i++) {
        size_t place;
        if (place_of(&place, i, rows, n)) out[place] = sums[i];
    }
}
KERNEL(linear)

// The same, added to what is there.
extern "C" __global__ void __launch_bounds__(128)
    linear_add(float* out, const bf16_t* x, const bf16_t* weight, unsigned rows, unsigned n, unsigned k) {
    SHARED(float, shared, WARPS * 16 * ROW_TILES * COLUMNS);
    float sums[ROW_TILES * 2];
    block_product(sums, shared, x, weight, rows, n, k);
    for (int i = 0; i < ROW_TILES * 2; i++) {
        size_t place;
        if (place_of(&place, i, rows, n)) out[place] += sums[i];
    }
}
KERNEL(linear_add)

// The same, rounded.
extern "C" __global__ void __launch_bounds__(128)
    linear_rounded(bf16_t* out, const bf16_t* x, const bf16_t* weight, unsigned rows, unsigned n, unsigned k) {
    SHARED(float, shared, WARPS * 16 * ROW_TILES * COLUMNS);
    float sums[ROW_TILES * 2];
    block_product(sums, shared, x, weight, rows, n, k);
    for (int i = 0; i < ROW_TILES * 2; i++) {
        size_t place;
        if (place_of(&place, i, rows, n)) out[place] = to_bf16(sums[i]);
    }
}
KERNEL(linear_rounded)
