// Masked grouped-query attention and its gradients on the tensor cores, without a matrix of scores.
//
// After FlashAttention-2 (Dao 2023, arXiv 2307.08691): scores exist in registers only, a tile of 64
// queries by 64 keys at a time, and are computed again on the way back. What is ours: who sees whom comes
// as spans, and which tiles hold anything to see comes as a list (src/tiles.rs), so that packed documents
// and windows cost what they see. Each result is summed by one block in the order of its list: the same
// bits in every run.
//
// A row of `qkv` is the queries of all heads, then the keys, then the values. HEAD_DIM is a multiple of
// 16, at most 128. Blocks have 4 warps; a warp owns 16 of the 64 queries (or keys, for their gradients).
// Scores are kept times log2(e), since exp2f is what the hardware has.

#include "common.cuh"

#define TILE 64
#define THREADS 128
// Of a row in shared memory: 8 more than it holds, so that the 8 rows of a matrix lie in different banks.
#define STRIDE (HEAD_DIM + 8)
#define TILE_SIZE (TILE * STRIDE)
// Columns of scores that are in registers at once going backward.
#define HALF 32

#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f

// What is common to a launch: where heads lie in a row.
struct Shape {
    unsigned rows, n_heads, n_kv_heads;
    __device__ __forceinline__ unsigned q_width() const { return n_heads * HEAD_DIM; }
    __device__ __forceinline__ unsigned kv_width() const { return n_kv_heads * HEAD_DIM; }
    __device__ __forceinline__ unsigned row_width() const { return q_width() + 2 * kv_width(); }
};

// 64 rows of one head, from row 64 * tile on, into shared memory, in the background; zeros past the last.
__device__ __forceinline__ void load_tile(bf16_t* shared, const bf16_t* head, unsigned width, unsigned tile,
                                          unsigned rows) {
    for (unsigned chunk = threadIdx.x; chunk < TILE * (HEAD_DIM / 8); chunk += THREADS) {
        unsigned row = chunk / (HEAD_DIM / 8), column = chunk % (HEAD_DIM / 8) * 8;
        unsigned from = tile * TILE + row;
        bool is_there = from < rows;
        copy_async(shared + row * STRIDE + column, head + (size_t)(is_there ? from : 0) * width + column, is_there);
    }
}

// The left operand of a product: 16 rows and 16 columns of a tile.
__device__ __forceinline__ void left(unsigned (&a)[4], const bf16_t* tile, unsigned row, unsigned column) {
    unsigned lane = threadIdx.x % 32;
    load_matrix(a, tile + (row + lane / 8 % 2 * 8 + lane % 8) * STRIDE + column + lane / 16 * 8);
}

// Two right operands (16 x 8 each) of a product with the transpose of a tile: rows `row` to `row + 15` of the
// tile are the columns of the product, `column` to `column + 15` what is summed over.
__device__ __forceinline__ void right_of_rows(unsigned (&b)[4], const bf16_t* tile, unsigned row, unsigned column) {
    unsigned lane = threadIdx.x % 32;
    load_matrix(b, tile + (row + lane / 16 * 8 + lane % 8) * STRIDE + column + lane / 8 % 2 * 8);
}

// The same of a product with the tile itself: summed over its rows, its columns are the product's.
__device__ __forceinline__ void right_of_columns(unsigned (&b)[4], const bf16_t* tile, unsigned row,
                                                 unsigned column) {
    unsigned lane = threadIdx.x % 32;
    load_matrix_transposed(b, tile + (row + lane / 8 % 2 * 8 + lane % 8) * STRIDE + column + lane / 16 * 8);
}

// d[:, 0..16] += a * b, for two right operands.
__device__ __forceinline__ void multiply(float (&low)[4], float (&high)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[4]) {
    const unsigned b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
    mma_bf16(low, a, b0);
    mma_bf16(high, a, b1);
}

// Sums of 16 rows and 16 columns, rounded: a left operand again.
__device__ __forceinline__ void as_left(unsigned (&a)[4], const float (&low)[4], const float (&high)[4]) {
    a[0] = pack_bf16(low[0], low[1]);
    a[1] = pack_bf16(low[2], low[3]);
    a[2] = pack_bf16(high[0], high[1]);
    a[3] = pack_bf16(high[2], high[3]);
}

// Products of 16 rows of `rows_of` (from `row` on) with N * 8 rows of `columns_of` (from `column_row` on).
template <int N>
__device__ __forceinline__ void products(float (&s)[N][4], const bf16_t* rows_of, unsigned row,
                                         const bf16_t* columns_of, unsigned column_row) {
#pragma unroll
    for (int j = 0; j < N; j++) s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0.0f;
#pragma unroll
    for (int k = 0; k < HEAD_DIM; k += 16) {
        unsigned a[4], b[4];
        left(a, rows_of, row, k);
#pragma unroll
        for (int j = 0; j < N; j += 2) {
            right_of_rows(b, columns_of, column_row + j * 8, k);
            multiply(s[j], s[j + 1], a, b);
        }
    }
}

// sums += p * the N * 8 rows of `tile` from `row` on.
template <int N>
__device__ __forceinline__ void add_weighted(float (&sums)[HEAD_DIM / 8][4], const float (&p)[N][4],
                                             const bf16_t* tile, unsigned row) {
#pragma unroll
    for (int j = 0; j < N; j += 2) {
        unsigned a[4], b[4];
        as_left(a, p[j], p[j + 1]);
#pragma unroll
        for (int n = 0; n < HEAD_DIM / 8; n += 2) {
            right_of_columns(b, tile, row + j * 8, n * 8);
            multiply(sums[n], sums[n + 1], a, b);
        }
    }
}

// Whether query `row` with this span (prefix_start, prefix_end, start) sees `key`; mirrors Span::ranges.
__device__ __forceinline__ bool sees(unsigned row, const unsigned* span, unsigned key) {
    return (key >= span[0] && key < span[1]) || (key >= span[2] && key <= row);
}

// Writes 16 rows of sums, times a factor for each half, of one head.
__device__ __forceinline__ void store(bf16_t* head, unsigned width, unsigned first_row, unsigned rows,
                                      const float (&sums)[HEAD_DIM / 8][4], float low_factor, float high_factor) {
    unsigned lane = threadIdx.x % 32, low = first_row + lane / 4, high = low + 8;
#pragma unroll
    for (int n = 0; n < HEAD_DIM / 8; n++) {
        unsigned column = n * 8 + lane % 4 * 2;
        if (low < rows)
            *(unsigned*)(head + (size_t)low * width + column) =
                pack_bf16(sums[n][0] * low_factor, sums[n][1] * low_factor);
        if (high < rows)
            *(unsigned*)(head + (size_t)high * width + column) =
                pack_bf16(sums[n][2] * high_factor, sums[n][3] * high_factor);
    }
}

__device__ __forceinline__ void clear(float (&sums)[HEAD_DIM / 8][4]) {
#pragma unroll
    for (int n = 0; n < HEAD_DIM / 8; n++) sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0.0f;
}

// out[rows, q_width] and lse[n_heads, rows] (natural log of the sum of exponentials). Grid: tiles of
// queries, heads. Shared memory: 5 tiles.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention(bf16_t* out, float* lse, const bf16_t* qkv, const unsigned* spans, const unsigned* first,
              const unsigned* tiles, unsigned rows, unsigned n_heads, unsigned n_kv_heads, float scale) {
    DYNAMIC_SHARED(memory);
    const Shape shape = {rows, n_heads, n_kv_heads};
    bf16_t* queries = (bf16_t*)memory;
    bf16_t* pairs = queries + TILE_SIZE;  // keys and values, twice
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, width = shape.row_width();
    const unsigned head = blockIdx.y, kv_head = head / (n_heads / n_kv_heads);
    const bf16_t* keys = qkv + shape.q_width() + kv_head * HEAD_DIM;
    const bf16_t* values = keys + shape.kv_width();
    const unsigned begin = first[blockIdx.x], end = first[blockIdx.x + 1];

    load_tile(queries, qkv + head * HEAD_DIM, width, blockIdx.x, rows);
    load_tile(pairs, keys, width, tiles[begin] / 2, rows);
    load_tile(pairs + TILE_SIZE, values, width, tiles[begin] / 2, rows);
    copy_async_commit();

    // Rows of this thread: `low` and `low + 8`.
    const unsigned low = blockIdx.x * TILE + warp * 16 + lane / 4;
    float sums[HEAD_DIM / 8][4], most[2] = {-INFINITY_F, -INFINITY_F}, total[2] = {0.0f, 0.0f};
    clear(sums);
    for (unsigned index = begin; index < end; index++) {
        const unsigned tile = tiles[index] / 2, is_masked = tiles[index] % 2;
        const bf16_t* here = pairs + (index - begin) % 2 * 2 * TILE_SIZE;
        if (index + 1 < end) {
            bf16_t* next = pairs + (index + 1 - begin) % 2 * 2 * TILE_SIZE;
            load_tile(next, keys, width, tiles[index + 1] / 2, rows);
            load_tile(next + TILE_SIZE, values, width, tiles[index + 1] / 2, rows);
        }
        copy_async_commit();
        copy_async_wait<1>();
        block_sync();

        float s[TILE / 8][4];
        products<TILE / 8>(s, queries, warp * 16, here, 0);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const unsigned row = low + half * 8;
            float new_most = most[half];
#pragma unroll
            for (int j = 0; j < TILE / 8; j++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float& x = s[j][half * 2 + i];
                    const unsigned key = tile * TILE + j * 8 + lane % 4 * 2 + i;
                    x *= scale * LOG2_E;
                    if (is_masked && (row >= rows || !sees(row, spans + row * 3, key))) x = -INFINITY_F;
                    new_most = fmaxf(new_most, x);
                }
            }
            new_most = row_max(new_most);
            const float kept = exp2f(most[half] - new_most);
            most[half] = new_most;
            float added = 0.0f;
#pragma unroll
            for (int j = 0; j < TILE / 8; j++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float& x = s[j][half * 2 + i];
                    x = x == -INFINITY_F ? 0.0f : exp2f(x - new_most);
                    added += x;
                }
            }
            total[half] = total[half] * kept + row_sum(added);
#pragma unroll
            for (int n = 0; n < HEAD_DIM / 8; n++) {
                sums[n][half * 2] *= kept;
                sums[n][half * 2 + 1] *= kept;
            }
        }
        add_weighted<TILE / 8>(sums, s, here + TILE_SIZE, 0);
        block_sync();
    }
    copy_async_wait<0>();
    store(out + head * HEAD_DIM, shape.q_width(), blockIdx.x * TILE + warp * 16, rows, sums, 1.0f / total[0],
          1.0f / total[1]);
    if (lane % 4 == 0) {
        if (low < rows) lse[(size_t)head * rows + low] = most[0] * LN_2 + logf(total[0]);
        if (low + 8 < rows) lse[(size_t)head * rows + low + 8] = most[1] * LN_2 + logf(total[1]);
    }
}
KERNEL(attention)

// delta[n_heads, rows]: the product of an output row with its gradient. A warp for each row and head;
// grid: rows, heads over 4.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention_delta(float* delta, const bf16_t* d_out, const bf16_t* out, unsigned rows, unsigned n_heads) {
    const unsigned head = blockIdx.y * (THREADS / 32) + threadIdx.x / 32, row = blockIdx.x;
    float sum = 0.0f;
    if (head < n_heads) {
        const size_t from = ((size_t)row * n_heads + head) * HEAD_DIM;
        for (unsigned i = threadIdx.x % 32; i < HEAD_DIM; i += 32)
            sum += to_float(d_out[from + i]) * to_float(out[from + i]);
    }
    sum = warp_sum(sum);
    if (head < n_heads && threadIdx.x % 32 == 0) delta[(size_t)head * rows + row] = sum;
}
KERNEL(attention_delta)

// The gradient of the queries, into their place in rows of `d_qkv`. Grid: tiles of queries, heads. Shared
// memory: 6 tiles.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    attention_backward_queries(bf16_t* d_qkv, const bf16_t* d_out, const float* lse, const float* delta,
                               const bf16_t* qkv, const unsigned* spans, const unsigned* first,
                               const unsigned* tiles, unsigned rows, unsigned n_heads, unsigned n_kv_heads,
                               float scale) {
    DYNAMIC_SHARED(memory);
    const Shape shape = {rows, n_heads, n_kv_heads};
    bf16_t* queries = (bf16_t*)memory;
    bf16_t* d_rows = queries + TILE_SIZE;
    bf16_t* pairs = d_rows + TILE_SIZE;
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, width = shape.row_width();
    const unsigned head = blockIdx.y, kv_head = head / (n_heads / n_kv_heads);
    const bf16_t* keys = qkv + shape.q_width() + kv_head * HEAD_DIM;
    const bf16_t* values = keys + shape.kv_width();
    const unsigned begin = first[blockIdx.x], end = first[blockIdx.x + 1];

    load_tile(queries, qkv + head * HEAD_DIM, width, blockIdx.x, rows);
    load_tile(d_rows, d_out + head * HEAD_DIM, shape.q_width(), blockIdx.x, rows);
    load_tile(pairs, keys, width, tiles[begin] / 2, rows);
    load_tile(pairs + TILE_SIZE, values, width, tiles[begin] / 2, rows);
    copy_async_commit();

    const unsigned low = blockIdx.x * TILE + warp * 16 + lane / 4;
    float of_lse[2], of_delta[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const unsigned row = low + half * 8;
        of_lse[half] = row < rows ? lse[(size_t)head * rows + row] * LOG2_E : 0.0f;
        of_delta[half] = row < rows ? delta[(size_t)head * rows + row] : 0.0f;
    }
    float sums[HEAD_DIM / 8][4];
    clear(sums);
    for (unsigned index = begin; index < end; index++) {
        const unsigned tile = tiles[index] / 2, is_masked = tiles[index] % 2;
        const bf16_t* here = pairs + (index - begin) % 2 * 2 * TILE_SIZE;
        if (index + 1 < end) {
            bf16_t* next = pairs + (index + 1 - begin) % 2 * 2 * TILE_SIZE;
            load_tile(next, keys, width, tiles[index + 1] / 2, rows);
            load_tile(next + TILE_SIZE, values, width, tiles[index + 1] / 2, rows);
        }
        copy_async_commit();
        copy_async_wait<1>();
        block_sync();
        for (unsigned from = 0; from < TILE; from += HALF) {
            float s[HALF / 8][4], d[HALF / 8][4];
            products<HALF / 8>(s, queries, warp * 16, here, from);
            products<HALF / 8>(d, d_rows, warp * 16, here + TILE_SIZE, from);
#pragma unroll
            for (int j = 0; j < HALF / 8; j++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const unsigned row = low + i / 2 * 8, key = tile * TILE + from + j * 8 + lane % 4 * 2 + i % 2;
                    const bool is_seen = !is_masked || (row < rows && sees(row, spans + row * 3, key));
                    const float p = is_seen ? exp2f(s[j][i] * (scale * LOG2_E) - of_lse[i / 2]) : 0.0f;
                    s[j][i] = p * (d[j][i] - of_delta[i / 2]);
                }
            }
            add_weighted<HALF / 8>(sums, s, here, from);
        }
        block_sync();
    }
    copy_async_wait<0>();
    store(d_qkv + head * HEAD_DIM, width, blockIdx.x * TILE + warp * 16, rows, sums, scale, scale);
}
KERNEL(attention_backward_queries)

// The gradients of keys and values, into their places in rows of `d_qkv`. The list is that of the tiles of
// queries that see a tile of keys. Grid: tiles of keys, key/value heads. Shared memory: 6 tiles, then 5 times
// 64 words for each of two tiles of queries.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention_backward_keys(bf16_t* d_qkv, const bf16_t* d_out, const float* lse, const float* delta,
                            const bf16_t* qkv, const unsigned* spans, const unsigned* first,
                            const unsigned* tiles, unsigned rows, unsigned n_heads, unsigned n_kv_heads,
                            float scale) {
    DYNAMIC_SHARED(memory);
    const Shape shape = {rows, n_heads, n_kv_heads};
    bf16_t* keys = (bf16_t*)memory;
    bf16_t* values = keys + TILE_SIZE;
    bf16_t* pairs = values + TILE_SIZE;  // queries and the gradients of their outputs, twice
    float* of_rows = (float*)(pairs + 4 * TILE_SIZE);
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, width = shape.row_width();
    const unsigned kv_head = blockIdx.y, group = n_heads / n_kv_heads;
    const unsigned begin = first[blockIdx.x], n_tiles = first[blockIdx.x + 1] - begin;
    const bf16_t* key_head = qkv + shape.q_width() + kv_head * HEAD_DIM;

    load_tile(keys, key_head, width, blockIdx.x, rows);
    load_tile(values, key_head + shape.kv_width(), width, blockIdx.x, rows);
    load_tile(pairs, qkv + kv_head * group * HEAD_DIM, width, tiles[begin] / 2, rows);
    load_tile(pairs + TILE_SIZE, d_out + kv_head * group * HEAD_DIM, shape.q_width(), tiles[begin] / 2, rows);
    copy_async_commit();

    const unsigned low = blockIdx.x * TILE + warp * 16 + lane / 4;
    float d_keys[HEAD_DIM / 8][4], d_values[HEAD_DIM / 8][4];
    clear(d_keys);
    clear(d_values);
    for (unsigned step = 0; step < n_tiles * group; step++) {
        const unsigned head = kv_head * group + step / n_tiles;
        const unsigned tile = tiles[begin + step % n_tiles] / 2, is_masked = tiles[begin + step % n_tiles] % 2;
        const bf16_t* here = pairs + step % 2 * 2 * TILE_SIZE;
        if (step + 1 < n_tiles * group) {
            const unsigned next_head = kv_head * group + (step + 1) / n_tiles;
            const unsigned next_tile = tiles[begin + (step + 1) % n_tiles] / 2;
            bf16_t* next = pairs + (step + 1) % 2 * 2 * TILE_SIZE;
            load_tile(next, qkv + next_head * HEAD_DIM, width, next_tile, rows);
            load_tile(next + TILE_SIZE, d_out + next_head * HEAD_DIM, shape.q_width(), next_tile, rows);
        }
        copy_async_commit();
        // Log-sum-exp, delta and span of each query of the tile.
        float* of_lse = of_rows + step % 2 * 5 * TILE;
        float* of_delta = of_lse + TILE;
        unsigned* of_spans = (unsigned*)(of_delta + TILE);
        for (unsigned i = threadIdx.x; i < TILE; i += THREADS) {
            const unsigned row = tile * TILE + i;
            const bool is_there = row < rows;
            of_lse[i] = is_there ? lse[(size_t)head * rows + row] * LOG2_E : 0.0f;
            of_delta[i] = is_there ? delta[(size_t)head * rows + row] : 0.0f;
            for (unsigned part = 0; part < 3; part++)
                of_spans[i * 3 + part] = is_there ? spans[(size_t)row * 3 + part] : 0;
        }
        copy_async_wait<1>();
        block_sync();
        for (unsigned from = 0; from < TILE; from += HALF) {
            // Transposed: rows are keys, columns queries.
            float p[HALF / 8][4], d[HALF / 8][4];
            products<HALF / 8>(p, keys, warp * 16, here, from);
            products<HALF / 8>(d, values, warp * 16, here + TILE_SIZE, from);
#pragma unroll
            for (int j = 0; j < HALF / 8; j++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const unsigned at = from + j * 8 + lane % 4 * 2 + i % 2, row = tile * TILE + at;
                    const unsigned key = low + i / 2 * 8;
                    const bool is_seen = !is_masked || (row < rows && sees(row, of_spans + at * 3, key));
                    p[j][i] = is_seen ? exp2f(p[j][i] * (scale * LOG2_E) - of_lse[at]) : 0.0f;
                    d[j][i] = p[j][i] * (d[j][i] - of_delta[at]);
                }
            }
            add_weighted<HALF / 8>(d_values, p, here + TILE_SIZE, from);
            add_weighted<HALF / 8>(d_keys, d, here, from);
        }
        block_sync();
    }
    copy_async_wait<0>();
    bf16_t* d_key_head = d_qkv + shape.q_width() + kv_head * HEAD_DIM;
    const unsigned first_row = blockIdx.x * TILE + warp * 16;
    store(d_key_head, width, first_row, rows, d_keys, scale, scale);
    store(d_key_head + shape.kv_width(), width, first_row, rows, d_values, 1.0f, 1.0f);
}
KERNEL(attention_backward_keys)
