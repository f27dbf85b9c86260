// What all kernels share: bf16, sums over a warp and a block, the tensor cores' product, and copies that
// run beside the arithmetic.
//
// A kernel is written against this file alone. Where CWM_EMULATOR is defined a processor runs it, and
// emulator.h (included first) brings threadIdx, blockIdx and the like; what follows under #else of
// CWM_EMULATOR is the device's own.
//
// Rules that keep both true: threads of a block in x only; every thread of a warp reaches every warp
// function and every thread of a block every block_sync(); no static data; SHARED and DYNAMIC_SHARED are
// the first lines of a kernel, once each for all its threads; parameters are pointers, unsigned or float;
// kernels are `extern "C" __global__ void` and are named in KERNEL(...) after their definition.

typedef unsigned short bf16_t;  // the upper 16 bits of a float

#ifdef CWM_EMULATOR
// KERNEL, SHARED, DYNAMIC_SHARED, block_sync, warp_sync, shuffle*, mma_bf16, copy_async*, load_matrix*: emulator.h
#else

#define KERNEL(name)
#define SHARED(type, name, size) __shared__ type name[size]
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

__device__ __forceinline__ void block_sync() { __syncthreads(); }
__device__ __forceinline__ void warp_sync() { __syncwarp(); }
// Values of other lanes, for float, double, int and unsigned: lane ^ lane_mask; lane + lanes, or the
// lane's own beyond the warp; and any one.
template <typename T>
__device__ __forceinline__ T shuffle_xor(T x, int lane_mask) {
    return __shfl_xor_sync(0xffffffffu, x, lane_mask);
}
template <typename T>
__device__ __forceinline__ T shuffle_down(T x, int lanes) {
    return __shfl_down_sync(0xffffffffu, x, lanes);
}
template <typename T>
__device__ __forceinline__ T shuffle(T x, int lane) {
    return __shfl_sync(0xffffffffu, x, lane);
}

// d += a * b for one 16x16 tile of A (row-major), one 16x8 tile of B (column-major) and 16x8 sums.
// Fragments as PTX's mma.m16n8k16: with g = lane / 4 and t = lane % 4,
//   a[0] = A[g][2t, 2t+1]    a[1] = A[g+8][2t, 2t+1]    a[2] = A[g][2t+8, 2t+9]    a[3] = A[g+8][2t+8, 2t+9]
//   b[0] = B[2t, 2t+1][g]    b[1] = B[2t+8, 2t+9][g]
//   d[0], d[1] = D[g][2t, 2t+1]    d[2], d[3] = D[g+8][2t, 2t+1]
__device__ __forceinline__ void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8x8 matrices of bf16 from shared memory: lane l passes the address of row l % 8 of matrix l / 8
// (16 bytes, aligned to 16); lane l receives in r[i] the numbers 2 * (l % 4) and the next of row l / 4 of
// matrix i. The transposed form receives them from column l / 4.
__device__ __forceinline__ void load_matrix(unsigned (&r)[4], const bf16_t* row) {
    unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}
__device__ __forceinline__ void load_matrix_transposed(unsigned (&r)[4], const bf16_t* row) {
    unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

// 16 bytes from global to shared memory, in the background; zeros where `is_there` is false.
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool is_there) {
    unsigned address = (unsigned)__cvta_generic_to_shared(shared);
    int bytes = is_there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(address), "l"(global), "r"(bytes)
                 : "memory");
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Waits until at most PENDING of the newest groups are still on their way.
template <int PENDING>
__device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(PENDING) : "memory");
}

__device__ __forceinline__ unsigned float_bits(float x) { return __float_as_uint(x); }
__device__ __forceinline__ float bits_float(unsigned x) { return __uint_as_float(x); }

#endif

#define INFINITY_F 3.402823466e+38f
#define NAN_F bits_float(0x7fffffffu)

__device__ __forceinline__ float to_float(bf16_t x) { return bits_float((unsigned)x << 16); }

// To the nearest, ties to even. Not for NaN, whose sign and payload may change; it stays NaN.
__device__ __forceinline__ bf16_t to_bf16(float x) {
    unsigned bits = float_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (bf16_t)((bits >> 16) | 0x40);
    return (bf16_t)((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

// Two in one register, the first in the lower half.
__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
    return (unsigned)to_bf16(low) | ((unsigned)to_bf16(high) << 16);
}
__device__ __forceinline__ float low_float(unsigned pair) { return bits_float(pair << 16); }
__device__ __forceinline__ float high_float(unsigned pair) { return bits_float(pair & 0xffff0000u); }

// Numbers that lie next to one another, as floats: one, or eight of which the address is aligned to 16
// bytes. A kernel that is written for an array of NUMBERS then has both forms.
__device__ __forceinline__ void load_numbers(float (&x)[1], const float* from) { x[0] = from[0]; }
__device__ __forceinline__ void load_numbers(float (&x)[1], const bf16_t* from) { x[0] = to_float(from[0]); }
__device__ __forceinline__ void load_numbers(float (&x)[8], const float* from) {
    for (int half = 0; half < 2; half++) {
        float4 four = ((const float4*)from)[half];
        x[4 * half] = four.x;
        x[4 * half + 1] = four.y;
        x[4 * half + 2] = four.z;
        x[4 * half + 3] = four.w;
    }
}
__device__ __forceinline__ void load_numbers(float (&x)[8], const bf16_t* from) {
    uint4 eight = *(const uint4*)from;
    const unsigned pairs[4] = {eight.x, eight.y, eight.z, eight.w};
    for (int i = 0; i < 4; i++) {
        x[2 * i] = low_float(pairs[i]);
        x[2 * i + 1] = high_float(pairs[i]);
    }
}
__device__ __forceinline__ void store_numbers(float* to, const float (&x)[1]) { to[0] = x[0]; }
__device__ __forceinline__ void store_numbers(bf16_t* to, const float (&x)[1]) { to[0] = to_bf16(x[0]); }
__device__ __forceinline__ void store_numbers(float* to, const float (&x)[8]) {
    ((float4*)to)[0] = make_float4(x[0], x[1], x[2], x[3]);
    ((float4*)to)[1] = make_float4(x[4], x[5], x[6], x[7]);
}
__device__ __forceinline__ void store_numbers(bf16_t* to, const float (&x)[8]) {
    *(uint4*)to = make_uint4(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]),
                             pack_bf16(x[6], x[7]));
}

__device__ __forceinline__ float warp_sum(float x) {
    for (int mask = 16; mask > 0; mask >>= 1) x += shuffle_xor(x, mask);
    return x;
}
__device__ __forceinline__ float warp_max(float x) {
    for (int mask = 16; mask > 0; mask >>= 1) x = fmaxf(x, shuffle_xor(x, mask));
    return x;
}

// Over the four lanes that hold one row of a tile of mma_bf16's sums.
__device__ __forceinline__ float row_sum(float x) {
    x += shuffle_xor(x, 1);
    return x + shuffle_xor(x, 2);
}
__device__ __forceinline__ float row_max(float x) {
    x = fmaxf(x, shuffle_xor(x, 1));
    return fmaxf(x, shuffle_xor(x, 2));
}

// Over a block of up to 1,024 threads; all receive it. `scratch` is 32 floats of shared memory, free
// again after the call.
__device__ __forceinline__ float block_sum(float x, float* scratch) {
    x = warp_sum(x);
    int warps = (blockDim.x + 31) / 32;
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
    block_sync();
    float sum = 0.0f;
    for (int warp = 0; warp < warps; warp++) sum += scratch[warp];
    block_sync();
    return sum;
}
__device__ __forceinline__ float block_max(float x, float* scratch) {
    x = warp_max(x);
    int warps = (blockDim.x + 31) / 32;
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
    block_sync();
    float most = -INFINITY_F;
    for (int warp = 0; warp < warps; warp++) most = fmaxf(most, scratch[warp]);
    block_sync();
    return most;
}
