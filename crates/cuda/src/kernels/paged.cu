// Attention of new tokens over keys and values that lie in pages, and the writing of those pages.
//
// A page has 64 positions of one group of layers: for each layer the keys of all heads, then the values,
// [n_kv_heads, 64, HEAD_DIM] each. Pages are named by their address; sequences share and copy them as they
// like (the engine does), so that nothing is known here but which page holds which positions.
//
// A sequence is four numbers: its first row in the pass, how many rows it has, the position of the first,
// and the index in `pages` that page number 0 would have (which may lie before the list, and wraps). All
// query heads that share a key head go together, so that keys are read once: "packed" row p of a sequence
// is row p / group with head p % group of the key head.
//
// A number of the result is summed in an order that its position alone decides. Keys are taken 32 at a
// time; the share i = key / 32 goes to warp i % 4 of the block that has chunk key / 1024, each takes its
// shares in order, and warps and chunks are added up in order. What a query does not see adds exactly
// nothing, so neither the other queries of a block nor the number of chunks of a launch change a bit.

#include "common.cuh"

#define PAGE 64
#define SHARE 32
#define CHUNK 1024
#define WARPS 4
#define STRIDE (HEAD_DIM + 8)
#define LOG2_E 1.4426950408889634f

// The plane of keys of a layer and a head in a page; its values are plane_step further on.
__device__ __forceinline__ bf16_t* plane_of(unsigned long long page, unsigned layer, unsigned n_kv_heads,
                                            unsigned kv_head) {
    return (bf16_t*)page + ((size_t)layer * 2 * n_kv_heads + kv_head) * PAGE * HEAD_DIM;
}

// Keys and values of the rows of `qkv` into the pages `to`, one for each row, at their positions. A block
// for each row, a thread eight numbers at a time.
extern "C" __global__ void store_rows(const unsigned long long* to, const unsigned* positions, const bf16_t* qkv,
                                      unsigned layer, unsigned n_heads, unsigned n_kv_heads) {
    const unsigned row = blockIdx.x, width = (n_heads + 2 * n_kv_heads) * HEAD_DIM;
    const bf16_t* from = qkv + (size_t)row * width + n_heads * HEAD_DIM;
    for (unsigned i = threadIdx.x * 8; i < 2 * n_kv_heads * HEAD_DIM; i += blockDim.x * 8) {
        bf16_t* plane = plane_of(to[row], layer, n_kv_heads, i / HEAD_DIM);
        *(uint4*)(plane + positions[row] % PAGE * HEAD_DIM + i % HEAD_DIM) = *(const uint4*)(from + i);
    }
}
KERNEL(store_rows)

// 32 rows of a plane into a warp's shared memory, in the background.
__device__ __forceinline__ void load_share(bf16_t* shared, const bf16_t* plane) {
    for (unsigned chunk = threadIdx.x % 32; chunk < SHARE * (HEAD_DIM / 8); chunk += 32) {
        unsigned row = chunk / (HEAD_DIM / 8), column = chunk % (HEAD_DIM / 8) * 8;
        copy_async(shared + row * STRIDE + column, plane + row * HEAD_DIM + column, true);
    }
}

// out[rows, n_heads * HEAD_DIM], or, where the grid has several chunks, `partial`: for each chunk, row and
// head the sums, then the greatest score and the total of the weights (HEAD_DIM + 2 floats). `window` is
// how many positions a query sees, itself included; 0 for all. `tiles` names, for each block in x, a
// sequence and its first packed row of 16. Grid: tiles, key heads, chunks.
extern "C" __global__ void __launch_bounds__(128)
    paged_attention(bf16_t* out, float* partial, const bf16_t* qkv, const unsigned long long* pages,
                    const unsigned* sequences, const unsigned* tiles, unsigned layer, unsigned window,
                    unsigned rows, unsigned n_heads, unsigned n_kv_heads, float scale) {
    DYNAMIC_SHARED(memory);
    SHARED(float, warp_most, WARPS * 16);
    SHARED(float, warp_total, WARPS * 16);
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = n_heads / n_kv_heads;
    const unsigned* sequence = sequences + tiles[2 * blockIdx.x] * 4;
    const unsigned first_row = sequence[0], n_packed = sequence[1] * group, start = sequence[2];
    const unsigned page_zero = sequence[3], first_packed = tiles[2 * blockIdx.x + 1], kv_head = blockIdx.y;
    const unsigned width = (n_heads + 2 * n_kv_heads) * HEAD_DIM;

    bf16_t* queries = (bf16_t*)memory;
    bf16_t* keys = queries + 16 * STRIDE + warp * 2 * SHARE * STRIDE;
    bf16_t* values = keys + SHARE * STRIDE;
    for (unsigned chunk = threadIdx.x; chunk < 16 * (HEAD_DIM / 8); chunk += 32 * WARPS) {
        const unsigned p = first_packed + chunk / (HEAD_DIM / 8), column = chunk % (HEAD_DIM / 8) * 8;
        const bool is_there = p < n_packed;
        const unsigned row = is_there ? first_row + p / group : 0, head = is_there ? kv_head * group + p % group : 0;
        copy_async(queries + chunk / (HEAD_DIM / 8) * STRIDE + column,
                   qkv + (size_t)row * width + head * HEAD_DIM + column, is_there);
    }
    copy_async_commit();
    copy_async_wait<0>();
    block_sync();

    // What any query of the tile sees of this chunk.
    const unsigned last_packed = min(first_packed + 16, n_packed) - 1;
    const unsigned oldest = start + first_packed / group, newest = start + last_packed / group;
    unsigned begin = window != 0 && oldest >= window ? oldest + 1 - window : 0, end = newest + 1;
    begin = max(begin, blockIdx.z * CHUNK) / SHARE;
    end = (min(end, (blockIdx.z + 1) * CHUNK) + SHARE - 1) / SHARE;
    unsigned share = begin + (warp + WARPS - begin % WARPS) % WARPS;

    float sums[HEAD_DIM / 8][4], most[2] = {-INFINITY_F, -INFINITY_F}, total[2] = {0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < HEAD_DIM / 8; i++) sums[i][0] = sums[i][1] = sums[i][2] = sums[i][3] = 0.0f;
    // The position of the two rows of a lane; rows that are not there see nothing.
    unsigned position[2];
    bool is_row[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const unsigned p = first_packed + lane / 4 + half * 8;
        is_row[half] = p < n_packed;
        position[half] = start + p / group;
    }
    const size_t plane_step = (size_t)n_kv_heads * PAGE * HEAD_DIM;
    for (; share < end; share += WARPS) {
        const bf16_t* plane = plane_of(pages[page_zero + share / 2], layer, n_kv_heads, kv_head);
        plane += share % 2 * SHARE * HEAD_DIM;
        load_share(keys, plane);
        copy_async_commit();
        load_share(values, plane + plane_step);
        copy_async_commit();
        copy_async_wait<1>();
        warp_sync();

        float s[SHARE / 8][4];
#pragma unroll
        for (int j = 0; j < SHARE / 8; j++) s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0.0f;
#pragma unroll
        for (int i = 0; i < HEAD_DIM; i += 16) {
            unsigned a[4], b[4];
            load_matrix(a, queries + (lane / 8 % 2 * 8 + lane % 8) * STRIDE + i + lane / 16 * 8);
#pragma unroll
            for (int j = 0; j < SHARE / 8; j += 2) {
                load_matrix(b, keys + (j * 8 + lane / 16 * 8 + lane % 8) * STRIDE + i + lane / 8 % 2 * 8);
                const unsigned low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
                mma_bf16(s[j], a, low);
                mma_bf16(s[j + 1], a, high);
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float new_most = most[half];
#pragma unroll
            for (int j = 0; j < SHARE / 8; j++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float& x = s[j][half * 2 + i];
                    const unsigned key = share * SHARE + j * 8 + lane % 4 * 2 + i;
                    const bool is_seen =
                        is_row[half] && key <= position[half] && (window == 0 || position[half] - key < window);
                    x = is_seen ? x * (scale * LOG2_E) : -INFINITY_F;
                    new_most = fmaxf(new_most, x);
                }
            }
            new_most = row_max(new_most);
            const float kept = exp2f(most[half] - new_most);
            most[half] = new_most;
            float added = 0.0f;
#pragma unroll
            for (int j = 0; j < SHARE / 8; j++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float& x = s[j][half * 2 + i];
                    x = x == -INFINITY_F ? 0.0f : exp2f(x - new_most);
                    added += x;
                }
            }
            total[half] = total[half] * kept + row_sum(added);
#pragma unroll
            for (int i = 0; i < HEAD_DIM / 8; i++) {
                sums[i][half * 2] *= kept;
                sums[i][half * 2 + 1] *= kept;
            }
        }
        copy_async_wait<0>();
        warp_sync();
#pragma unroll
        for (int j = 0; j < SHARE / 8; j += 2) {
            const unsigned a[4] = {pack_bf16(s[j][0], s[j][1]), pack_bf16(s[j][2], s[j][3]),
                                   pack_bf16(s[j + 1][0], s[j + 1][1]), pack_bf16(s[j + 1][2], s[j + 1][3])};
#pragma unroll
            for (int i = 0; i < HEAD_DIM / 8; i += 2) {
                unsigned b[4];
                load_matrix_transposed(b,
                                       values + (j * 8 + lane / 8 % 2 * 8 + lane % 8) * STRIDE + i * 8 + lane / 16 * 8);
                const unsigned low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
                mma_bf16(sums[i], a, low);
                mma_bf16(sums[i + 1], a, high);
            }
        }
        warp_sync();
    }
    block_sync();

    // The warps' sums take the place of queries, keys and values.
    float* all = (float*)memory;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const unsigned row = warp * 16 + lane / 4 + half * 8;
        if (lane % 4 == 0) {
            warp_most[row] = most[half];
            warp_total[row] = total[half];
        }
#pragma unroll
        for (int i = 0; i < HEAD_DIM / 8; i++) {
            all[row * HEAD_DIM + i * 8 + lane % 4 * 2] = sums[i][half * 2];
            all[row * HEAD_DIM + i * 8 + lane % 4 * 2 + 1] = sums[i][half * 2 + 1];
        }
    }
    block_sync();
    for (unsigned at = threadIdx.x; at < 16 * HEAD_DIM; at += 32 * WARPS) {
        const unsigned row = at / HEAD_DIM, column = at % HEAD_DIM, p = first_packed + row;
        if (p >= n_packed) continue;
        float greatest = -INFINITY_F, weights = 0.0f, sum = 0.0f;
        for (int from = 0; from < WARPS; from++) greatest = fmaxf(greatest, warp_most[from * 16 + row]);
        for (int from = 0; from < WARPS; from++) {
            const float of_warp = warp_most[from * 16 + row];
            if (of_warp == -INFINITY_F) continue;
            const float factor = exp2f(of_warp - greatest);
            weights += factor * warp_total[from * 16 + row];
            sum += factor * all[(from * 16 + row) * HEAD_DIM + column];
        }
        const size_t place = (size_t)(first_row + p / group) * n_heads + kv_head * group + p % group;
        if (gridDim.z == 1) {
            out[place * HEAD_DIM + column] = to_bf16(sum / weights);
        } else {
            float* to = partial + ((size_t)blockIdx.z * rows * n_heads + place) * (HEAD_DIM + 2);
            to[column] = sum;
            if (column == 0) {
                to[HEAD_DIM] = greatest;
                to[HEAD_DIM + 1] = weights;
            }
        }
    }
}
KERNEL(paged_attention)

// out from what the blocks of several chunks left in `partial`. A block for each row and head, a thread for
// each number; HEAD_DIM threads, and more up to whole warps.
extern "C" __global__ void add_chunks_of_keys(bf16_t* out, const float* partial, unsigned n_places,
                                              unsigned n_chunks) {
    const unsigned place = blockIdx.x, column = threadIdx.x;
    if (column >= HEAD_DIM) return;
    const float* from = partial + (size_t)place * (HEAD_DIM + 2);
    const size_t step = (size_t)n_places * (HEAD_DIM + 2);
    float greatest = -INFINITY_F, weights = 0.0f, sum = 0.0f;
    for (unsigned chunk = 0; chunk < n_chunks; chunk++) greatest = fmaxf(greatest, from[chunk * step + HEAD_DIM]);
    for (unsigned chunk = 0; chunk < n_chunks; chunk++) {
        const float of_chunk = from[chunk * step + HEAD_DIM];
        if (of_chunk == -INFINITY_F) continue;
        const float factor = exp2f(of_chunk - greatest);
        weights += factor * from[chunk * step + HEAD_DIM + 1];
        sum += factor * from[chunk * step + column];
    }
    out[(size_t)place * HEAD_DIM + column] = to_bf16(sum / weights);
}
KERNEL(add_chunks_of_keys)
