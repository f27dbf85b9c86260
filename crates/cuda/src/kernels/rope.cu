// Half-split rotary embedding in place; definition in cwm_kernels::reference.

#include "common.cuh"

// Turns the first n_heads heads of rows of row_width numbers: each number of a head's first half with the
// one `half` further on, by the angle of the row's position. sign is 1 forward and -1 backward. A thread
// turns NUMBERS pairs, of `items` times so many in all; a position that is not in the tables [n_positions,
// half] gives NaN.
extern "C" __global__ void rope(bf16_t* x, const unsigned* positions, const float* cosines, const float* sines,
                                unsigned items, unsigned row_width, unsigned n_heads, unsigned half,
                                unsigned n_positions, float sign) {
    unsigned item = blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= items) return;
    unsigned per_head = half / NUMBERS;
    unsigned j = item % per_head * NUMBERS, head = item / per_head % n_heads, row = item / per_head / n_heads;
    bf16_t* low_at = x + (size_t)row * row_width + head * 2 * half + j;
    unsigned position = positions[row];

    float low[NUMBERS], high[NUMBERS], cosine[NUMBERS], sine[NUMBERS];
    load_numbers(low, low_at);
    load_numbers(high, low_at + half);
    if (position < n_positions) {
        load_numbers(cosine, cosines + (size_t)position * half + j);
        load_numbers(sine, sines + (size_t)position * half + j);
    } else {
        for (int k = 0; k < NUMBERS; k++) cosine[k] = sine[k] = NAN_F;
    }
    for (int k = 0; k < NUMBERS; k++) {
        float a = low[k], b = high[k];
        low[k] = a * cosine[k] - b * sign * sine[k];
        high[k] = b * cosine[k] + a * sign * sine[k];
    }
    store_numbers(low_at, low);
    store_numbers(low_at + half, high);
}
KERNEL(rope)
