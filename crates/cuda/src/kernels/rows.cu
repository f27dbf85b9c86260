// Sums of rows that lie anywhere: the embedding lookup, and its gradient without atomics.
//
// A block has one row of the result, a thread NUMBERS columns at a time; terms are added in the order in
// which they are listed.

#include "common.cuh"

// A source of no row.
#define NONE 0xffffffffu

// Whether or not `from` is aligned as load_numbers wants it; all threads of a block find the same.
__device__ __forceinline__ void load_anywhere(float (&x)[NUMBERS], const float* from, bool is_aligned) {
    if (is_aligned) {
        load_numbers(x, from);
    } else {
        for (int k = 0; k < NUMBERS; k++) x[k] = from[k];
    }
}
__device__ __forceinline__ void load_anywhere(float (&x)[NUMBERS], const bf16_t* from, bool is_aligned) {
    if (is_aligned) {
        load_numbers(x, from);
    } else {
        for (int k = 0; k < NUMBERS; k++) x[k] = to_float(from[k]);
    }
}

// out[row] = the sum of table[source .. source + width] over the row's n_sources sources, none of which
// may be there. A source that reaches beyond the table's table_len numbers gives NaN.
template <typename T>
__device__ __forceinline__ void gather(float* out, const T* table, const unsigned* sources, unsigned n_sources,
                                       unsigned width, unsigned table_len) {
    const unsigned aligned = 16 / sizeof(T);
    sources += (size_t)blockIdx.x * n_sources;
    out += (size_t)blockIdx.x * width;
    for (unsigned i = NUMBERS * threadIdx.x; i < width; i += NUMBERS * blockDim.x) {
        float sums[NUMBERS], terms[NUMBERS];
        for (int k = 0; k < NUMBERS; k++) sums[k] = 0.0f;
        for (unsigned s = 0; s < n_sources; s++) {
            unsigned source = sources[s];
            if (source == NONE) continue;
            bool is_there = source <= table_len && width <= table_len - source;
            if (is_there) load_anywhere(terms, table + source + i, source % aligned == 0);
            for (int k = 0; k < NUMBERS; k++) sums[k] = is_there ? sums[k] + terms[k] : NAN_F;
        }
        store_numbers(out + i, sums);
    }
}

extern "C" __global__ void gather_sum(float* out, const float* table, const unsigned* sources, unsigned n_sources,
                                      unsigned width, unsigned table_len) {
    gather(out, table, sources, n_sources, width, table_len);
}
KERNEL(gather_sum)

// The same of a table in bf16.
extern "C" __global__ void gather_sum_rounded(float* out, const bf16_t* table, const unsigned* sources,
                                              unsigned n_sources, unsigned width, unsigned table_len) {
    gather(out, table, sources, n_sources, width, table_len);
}
KERNEL(gather_sum_rounded)

// partial[chunk] = the sum of the rows of source that the chunk lists: rows[chunk_starts[chunk]] up to
// the start of the next chunk.
extern "C" __global__ void sum_chunks(float* partial, const float* source, const unsigned* rows,
                                      const unsigned* chunk_starts, unsigned width) {
    unsigned begin = chunk_starts[blockIdx.x], end = chunk_starts[blockIdx.x + 1];
    for (unsigned i = NUMBERS * threadIdx.x; i < width; i += NUMBERS * blockDim.x) {
        float sums[NUMBERS], terms[NUMBERS];
        for (int k = 0; k < NUMBERS; k++) sums[k] = 0.0f;
        for (unsigned at = begin; at < end; at++) {
            load_numbers(terms, source + (size_t)rows[at] * width + i);
            for (int k = 0; k < NUMBERS; k++) sums[k] += terms[k];
        }
        store_numbers(partial + (size_t)blockIdx.x * width + i, sums);
    }
}
KERNEL(sum_chunks)

// destination[destinations[d] .. + width] += the chunks first_chunks[d] up to first_chunks[d + 1].
extern "C" __global__ void add_chunks(float* destination, const float* partial, const unsigned* destinations,
                                      const unsigned* first_chunks, unsigned width) {
    unsigned begin = first_chunks[blockIdx.x], end = first_chunks[blockIdx.x + 1];
    float* to = destination + destinations[blockIdx.x];
    bool is_aligned = destinations[blockIdx.x] % 4 == 0;
    for (unsigned i = NUMBERS * threadIdx.x; i < width; i += NUMBERS * blockDim.x) {
        float sums[NUMBERS], terms[NUMBERS];
        for (int k = 0; k < NUMBERS; k++) sums[k] = 0.0f;
        for (unsigned chunk = begin; chunk < end; chunk++) {
            load_numbers(terms, partial + (size_t)chunk * width + i);
            for (int k = 0; k < NUMBERS; k++) sums[k] += terms[k];
        }
        load_anywhere(terms, to + i, is_aligned);
        for (int k = 0; k < NUMBERS; k++) terms[k] += sums[k];
        if (is_aligned) {
            store_numbers(to + i, terms);
        } else {
            for (int k = 0; k < NUMBERS; k++) to[i + k] = terms[k];
        }
    }
}
KERNEL(add_chunks)
