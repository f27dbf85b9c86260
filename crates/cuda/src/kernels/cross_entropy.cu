// Loss of a softmax classifier and its gradient; definition in cwm_kernels::reference.

#include "common.cuh"

// For each row of logits [rows, vocab]:
//   losses = weight * (lse - logit of the target), d_logits = (softmax - target) * weight * scale,
//   correct = whether the target's logit is the largest, or the first of the largest.
// A row of weight 0 has loss, gradient and correct 0 and its target may be anything; another target
// outside the vocabulary gives a loss of NaN and no gradient. A block has a row, a thread NUMBERS columns
// at a time. The first walk finds the largest logit and the sum of exponentials together: a thread's sum
// is relative to the largest logit it has seen.
extern "C" __global__ void cross_entropy(bf16_t* d_logits, float* losses, unsigned* correct, const float* logits,
                                         const unsigned* ids, const float* weights, float scale,
                                         unsigned vocab) {
    SHARED(float, scratch, 32);
    logits += (size_t)blockIdx.x * vocab;
    d_logits += (size_t)blockIdx.x * vocab;
    unsigned target = ids[blockIdx.x];
    float weight = weights[blockIdx.x];
    bool has_target = target < vocab;
    float numbers[NUMBERS];

    if (weight == 0.0f || !has_target) {
        for (int k = 0; k < NUMBERS; k++) numbers[k] = 0.0f;
        for (unsigned i = NUMBERS * threadIdx.x; i < vocab; i += NUMBERS * blockDim.x) {
            store_numbers(d_logits + i, numbers);
        }
        if (threadIdx.x == 0) {
            losses[blockIdx.x] = weight == 0.0f ? 0.0f : NAN_F;
            correct[blockIdx.x] = 0;
        }
        return;  // all threads of the block do
    }

    float logit = logits[target], most = -INFINITY_F, sum = 0.0f, better = 0.0f;
    for (unsigned i = NUMBERS * threadIdx.x; i < vocab; i += NUMBERS * blockDim.x) {
        load_numbers(numbers, logits + i);
        float largest = most;
        for (int k = 0; k < NUMBERS; k++) largest = fmaxf(largest, numbers[k]);
        sum *= expf(most - largest);
        most = largest;
        for (int k = 0; k < NUMBERS; k++) {
            sum += expf(numbers[k] - most);
            // Negated, so that NaN is better than a number.
            bool is_worse = i + k < target ? numbers[k] < logit : numbers[k] <= logit;
            if (!is_worse) better = 1.0f;
        }
    }
    float largest = block_max(most, scratch);
    sum = block_sum(sum * expf(most - largest), scratch);
    better = block_max(better, scratch);

    float factor = weight * scale, inverse = 1.0f / sum;
    for (unsigned i = NUMBERS * threadIdx.x; i < vocab; i += NUMBERS * blockDim.x) {
        load_numbers(numbers, logits + i);
        for (int k = 0; k < NUMBERS; k++) {
            float p = expf(numbers[k] - largest) * inverse;
            numbers[k] = (i + k == target ? p - 1.0f : p) * factor;
        }
        store_numbers(d_logits + i, numbers);
    }
    if (threadIdx.x == 0) {
        losses[blockIdx.x] = weight * (largest - logit + logf(sum));
        correct[blockIdx.x] = better == 0.0f;
    }
}
KERNEL(cross_entropy)
