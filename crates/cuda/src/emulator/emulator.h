// A processor that plays a GPU, for tests: what a kernel uses of CUDA, in C++.
//
// The emulator compiles each kernel source with this file included before it. A kernel then runs block
// after block; the threads of a block are fibers on one thread of the operating system, each with a stack
// of its own, and one runs until it waits for others. Every second block starts with its last thread, so
// that a missing block_sync() is likely to be seen.
//
// It is stricter than a GPU. These end a launch with a message instead of a wrong number, or of a right
// one by luck: threads of a warp that do not all reach the same warp function, or of a block that do not
// all reach block_sync(); pointers that are null or not aligned to their type; an index outside an array
// of known size; writes beyond shared memory or a thread's stack; arguments of another type than the
// kernel's. Shared memory is NaN until it is written, and so is the target of copy_async() until
// copy_async_wait(). Accesses to device memory are not checked here: the Rust side puts guards around it.
//
// All state is static: one launch at a time in each library.

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct dim3 {
    unsigned x, y, z;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
static inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }

// For what runs often and is known to stay inside.
#define UNCHECKED __attribute__((no_sanitize("undefined")))

namespace emulator {

const unsigned WARP = 32;
const unsigned MAX_THREADS = 1024;
const unsigned STACK_BYTES = 64 * 1024;
// Of a block, as compute capability 9.0 has it; arrays of fixed size may have 48 KiB of it.
const unsigned SHARED_BYTES = 227 * 1024;
const unsigned STATIC_SHARED_BYTES = 48 * 1024;
const unsigned SHARED_ALIGNMENT = 128;
const unsigned GUARD_BYTES = 64;
const unsigned char GUARD = 0xa5;
const unsigned MAX_REGIONS = 64;

// ---- Fibers ------------------------------------------------------------------------------------------

// Saves the registers that a call must preserve on this stack and where it ends in *from; goes on where
// `to` was saved.
extern "C" void cwm_switch(void** from, void* to) asm("cwm_switch");

#if defined(__x86_64__)
asm(".text\n"
    "cwm_switch:\n"
    "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
    "movq %rsp, (%rdi)\n"
    "movq %rsi, %rsp\n"
    "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n"
    "ret\n");

static void* first_frame(unsigned char* top, void (*entry)()) {
    void** frame = (void**)(top - 64);
    memset(frame, 0, 64);
    frame[6] = (void*)entry;
    return frame;
}
#elif defined(__aarch64__)
asm(".text\n"
    ".p2align 2\n"
    "cwm_switch:\n"
    "sub sp, sp, #160\n"
    "stp x19, x20, [sp, #0]\n stp x21, x22, [sp, #16]\n stp x23, x24, [sp, #32]\n"
    "stp x25, x26, [sp, #48]\n stp x27, x28, [sp, #64]\n stp x29, x30, [sp, #80]\n"
    "stp d8, d9, [sp, #96]\n stp d10, d11, [sp, #112]\n"
    "stp d12, d13, [sp, #128]\n stp d14, d15, [sp, #144]\n"
    "mov x9, sp\n str x9, [x0]\n"
    "mov sp, x1\n"
    "ldp x19, x20, [sp, #0]\n ldp x21, x22, [sp, #16]\n ldp x23, x24, [sp, #32]\n"
    "ldp x25, x26, [sp, #48]\n ldp x27, x28, [sp, #64]\n ldp x29, x30, [sp, #80]\n"
    "ldp d8, d9, [sp, #96]\n ldp d10, d11, [sp, #112]\n"
    "ldp d12, d13, [sp, #128]\n ldp d14, d15, [sp, #144]\n"
    "add sp, sp, #160\n"
    "ret\n");

static void* first_frame(unsigned char* top, void (*entry)()) {
    void** frame = (void**)(top - 160);
    memset(frame, 0, 160);
    frame[11] = (void*)entry;
    return frame;
}
#else
#error "the emulator switches fibers on x86-64 and aarch64 only"
#endif

// ---- State -------------------------------------------------------------------------------------------

struct PendingCopy {
    void* to;
    const void* from;  // null for zeros
    unsigned group;
};

struct Thread {
    void* stack_pointer;
    unsigned char* stack;
    const char* waits_at;  // null while it can run
    bool has_ended;
    unsigned shared_used;  // where its next array in shared memory begins
    PendingCopy* copies;   // in the order of their groups
    unsigned n_copies, copies_capacity;
    unsigned n_groups;  // committed so far
};

struct Warp {
    unsigned ready;  // a bit for each lane that can run
    unsigned arrived;
    const char* operation;
    int parameter;
    void* operands[WARP];
};

struct Region {
    unsigned begin, size;
};

struct Argument {
    unsigned kind;  // 0 pointer, 1 unsigned, 2 float
    unsigned word;
    void* pointer;
};

struct Launch {
    unsigned grid[3];
    unsigned threads;
    unsigned shared_bytes;
    unsigned n_arguments;
    const Argument* arguments;
};

static Thread threads[MAX_THREADS];
static Warp warps[MAX_THREADS / WARP];
static void* host_stack;
static unsigned current;
static unsigned n_at_block_sync;
static bool is_reversed;
// With room for a guard after each region, and for its alignment.
alignas(SHARED_ALIGNMENT) static unsigned char
    shared_memory[SHARED_BYTES + MAX_REGIONS * (GUARD_BYTES + SHARED_ALIGNMENT)];
static Region regions[MAX_REGIONS];
static unsigned n_regions;
static const char* kernel_name;
static void (*invoke)(const void*);
static const void* invoked;
static char message[1024];

static Thread& self() { return threads[current]; }

// Ends the launch; the other threads are left where they are.
[[noreturn]] static void fail(const char* format, ...) {
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    snprintf(message, sizeof message, "kernel %s, block (%u, %u, %u), thread %u: %s", kernel_name, blockIdx.x,
             blockIdx.y, blockIdx.z, current, what);
    cwm_switch(&self().stack_pointer, host_stack);
    abort();  // nobody returns to an abandoned thread
}

// Nobody can run: the block has ended, or its threads wait for one another.
static void leave_block() {
    const Thread* waiting = nullptr;
    for (unsigned i = 0; i < blockDim.x && !waiting; i++) {
        if (threads[i].waits_at) waiting = &threads[i];
    }
    if (!waiting) {
        cwm_switch(&self().stack_pointer, host_stack);
        abort();
    }
    for (unsigned i = 0; i < blockDim.x; i++) {
        const char* other = threads[i].has_ended ? "has returned" : threads[i].waits_at;
        if (strcmp(other, waiting->waits_at) != 0) {
            fail("the block waits for ever: thread %u at %s, while thread %u %s%s", (unsigned)(waiting - threads),
                 waiting->waits_at, i, threads[i].has_ended ? "" : "is at ", other);
        }
    }
    fail("the block waits for ever at %s, for threads of which some passed it fewer times", waiting->waits_at);
}

// Lets another thread run, of this warp if one can; returns when this one may go on.
static __attribute__((noinline)) void run_another() {
    unsigned n_warps = blockDim.x / WARP, warp = current / WARP;
    for (unsigned tried = 0; tried < n_warps; tried++) {
        unsigned ready = warps[warp].ready;
        if (ready) {
            unsigned lane = is_reversed ? 31 - __builtin_clz(ready) : __builtin_ctz(ready);
            void** from = &self().stack_pointer;
            current = threadIdx.x = warp * WARP + lane;
            cwm_switch(from, self().stack_pointer);
            return;
        }
        warp = is_reversed ? (warp + n_warps - 1) % n_warps : (warp + 1) % n_warps;
    }
    leave_block();
}

static void wait_at(const char* what) {
    self().waits_at = what;
    warps[current / WARP].ready &= ~(1u << current % WARP);
    run_another();
}

static void make_ready(unsigned warp) {
    warps[warp].ready = ~0u;
    for (unsigned lane = 0; lane < WARP; lane++) threads[warp * WARP + lane].waits_at = nullptr;
}

static void thread_main() {
    invoke(invoked);
    self().has_ended = true;
    warps[current / WARP].ready &= ~(1u << current % WARP);
    run_another();
    abort();  // a thread that has ended is never ready
}

// ---- Functions of a warp and a block -----------------------------------------------------------------

// All 32 lanes meet here; the last one runs perform(operands), an operand from each lane. The operand may
// lie on the lane's stack.
static void meet(const char* operation, int parameter, void* operand, void (*perform)(void**, int)) {
    Warp& warp = warps[current / WARP];
    if (warp.arrived == 0) {
        warp.operation = operation;
        warp.parameter = parameter;
    } else if (strcmp(warp.operation, operation) != 0 || warp.parameter != parameter) {
        fail("the warp has diverged: this thread is at %s (%d), while others are at %s (%d)", operation, parameter,
             warp.operation, warp.parameter);
    }
    warp.operands[current % WARP] = operand;
    if (++warp.arrived < WARP) {
        wait_at(operation);
        return;
    }
    warp.arrived = 0;
    perform(warp.operands, parameter);
    make_ready(current / WARP);
}

template <typename T>
struct Shuffled {
    T in, out;
    int lane;
};

template <typename T>
static T exchange(const char* name, T x, int parameter, int lane) {
    Shuffled<T> mine = {x, x, lane};
    meet(name, parameter, &mine, [](void** operands, int) {
        for (unsigned lane = 0; lane < WARP; lane++) {
            auto to = (Shuffled<T>*)operands[lane];
            to->out = ((Shuffled<T>*)operands[to->lane])->in;
        }
    });
    return mine.out;
}

struct MmaOperands {
    float* d;
    const unsigned* a;
    const unsigned* b;
};

static inline float low_half(unsigned pair) {
    float x;
    pair <<= 16;
    memcpy(&x, &pair, 4);
    return x;
}
static inline float high_half(unsigned pair) { return low_half(pair >> 16); }

typedef float eight_floats __attribute__((vector_size(32)));

// Fragments to whole tiles, one product, and back. Operands are bf16, so that each product is exact.
UNCHECKED static void mma_of_warp(void** operands, int) {
    float a[16][16], b[16][8], d[16][8];
    for (unsigned lane = 0; lane < WARP; lane++) {
        auto from = (const MmaOperands*)operands[lane];
        unsigned g = lane / 4, t = 2 * (lane % 4);
        for (unsigned i = 0; i < 4; i++) {
            a[g + 8 * (i % 2)][t + 8 * (i / 2)] = low_half(from->a[i]);
            a[g + 8 * (i % 2)][t + 8 * (i / 2) + 1] = high_half(from->a[i]);
            d[g + 8 * (i / 2)][t + i % 2] = from->d[i];
        }
        for (unsigned i = 0; i < 2; i++) {
            b[t + 8 * i][g] = low_half(from->b[i]);
            b[t + 8 * i + 1][g] = high_half(from->b[i]);
        }
    }
    for (unsigned row = 0; row < 16; row++) {
        eight_floats sum, terms;
        memcpy(&sum, d[row], sizeof sum);
        for (unsigned k = 0; k < 16; k++) {
            memcpy(&terms, b[k], sizeof terms);
            sum += terms * a[row][k];
        }
        memcpy(d[row], &sum, sizeof sum);
    }
    for (unsigned lane = 0; lane < WARP; lane++) {
        auto to = (const MmaOperands*)operands[lane];
        for (unsigned i = 0; i < 4; i++) to->d[i] = d[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
    }
}

static void check_shared(const char* what, const void* address) {
    auto at = (const unsigned char*)address;
    bool is_inside = false;
    for (unsigned i = 0; i < n_regions; i++) {
        auto begin = shared_memory + regions[i].begin;
        is_inside |= begin <= at && at + 16 <= begin + regions[i].size;
    }
    if (!is_inside) fail("%s: the 16 bytes at %p are not in shared memory", what, address);
    if ((uintptr_t)address % 16) fail("%s: %p in shared memory is not aligned to 16 bytes", what, address);
}

struct MatrixRow {
    const unsigned short* row;
    unsigned* r;
};

template <bool IS_TRANSPOSED>
UNCHECKED static void load_of_warp(void** operands, int) {
    for (unsigned lane = 0; lane < WARP; lane++) {
        auto to = (const MatrixRow*)operands[lane];
        unsigned line = lane / 4, first = 2 * (lane % 4);
        for (unsigned matrix = 0; matrix < 4; matrix++) {
            auto at = [&](unsigned row, unsigned column) {
                return (unsigned)((const MatrixRow*)operands[8 * matrix + row])->row[column];
            };
            to->r[matrix] = IS_TRANSPOSED ? at(first, line) | at(first + 1, line) << 16
                                          : at(line, first) | at(line, first + 1) << 16;
        }
    }
}

// ---- Shared memory -----------------------------------------------------------------------------------

// The first thread of a block that asks for a region makes it; the others ask in the same order.
static void* region(unsigned size) {
    Thread& thread = self();
    unsigned begin = thread.shared_used;
    thread.shared_used += (size + GUARD_BYTES + SHARED_ALIGNMENT - 1) / SHARED_ALIGNMENT * SHARED_ALIGNMENT;
    for (unsigned i = 0; i < n_regions; i++) {
        if (regions[i].begin == begin) return shared_memory + begin;
    }
    if (n_regions > 0) {
        unsigned in_arrays = size;
        for (unsigned i = 1; i < n_regions; i++) in_arrays += regions[i].size;
        if (in_arrays > STATIC_SHARED_BYTES || in_arrays + regions[0].size > SHARED_BYTES || n_regions == MAX_REGIONS) {
            fail("%u bytes of shared memory and %u bytes of arrays in it are too many: %u are possible, %u of them in "
                 "up to %u arrays",
                 regions[0].size, in_arrays, SHARED_BYTES, STATIC_SHARED_BYTES, MAX_REGIONS - 1);
        }
    }
    memset(shared_memory + begin, 0xff, size);
    memset(shared_memory + begin + size, GUARD, GUARD_BYTES);
    regions[n_regions++] = {begin, size};
    return shared_memory + begin;
}

// ---- Launch ------------------------------------------------------------------------------------------

static void begin_block(unsigned x, unsigned y, unsigned z, unsigned shared_bytes) {
    blockIdx = {x, y, z};
    is_reversed = (x + y + z) % 2;
    n_at_block_sync = 0;
    n_regions = 0;
    for (unsigned i = 0; i < blockDim.x; i++) {
        Thread& thread = threads[i];
        if (!thread.stack) thread.stack = (unsigned char*)aligned_alloc(16, STACK_BYTES);
        if (!thread.stack) abort();
        memset(thread.stack, GUARD, GUARD_BYTES);
        thread.stack_pointer = first_frame(thread.stack + STACK_BYTES, thread_main);
        thread.waits_at = nullptr;
        thread.has_ended = false;
        thread.n_copies = thread.n_groups = 0;
        thread.shared_used = 0;
    }
    for (unsigned i = 0; i < blockDim.x / WARP; i++) {
        warps[i].ready = ~0u;
        warps[i].arrived = 0;
    }
    current = threadIdx.x = is_reversed ? blockDim.x - 1 : 0;
    // Dynamic shared memory is the first region, before those that threads ask for.
    region(shared_bytes);
    for (unsigned i = 0; i < blockDim.x; i++) threads[i].shared_used = self().shared_used;
}

static bool is_guard(const unsigned char* bytes) {
    bool is_whole = true;
    for (unsigned i = 0; i < GUARD_BYTES; i++) is_whole &= bytes[i] == GUARD;
    return is_whole;
}

static void check_guards() {
    const char* what = nullptr;
    for (unsigned i = 0; i < n_regions; i++) {
        if (!is_guard(shared_memory + regions[i].begin + regions[i].size)) what = "a write beyond shared memory";
    }
    for (unsigned i = 0; i < blockDim.x; i++) {
        if (!is_guard(threads[i].stack)) what = "a thread uses more than the emulator's stack";
    }
    if (what) {
        snprintf(message, sizeof message, "kernel %s, block (%u, %u, %u): %s", kernel_name, blockIdx.x, blockIdx.y,
                 blockIdx.z, what);
    }
}

template <typename P>
static P argument(const Argument& given) {
    if constexpr (std::is_pointer<P>::value) return (P)given.pointer;
    P value;
    static_assert(sizeof value == 4 || std::is_pointer<P>::value, "an argument is a pointer, an unsigned or a float");
    memcpy(&value, &given.word, 4);
    return value;
}

template <typename P>
static unsigned kind_of() {
    return std::is_pointer<P>::value ? 0 : std::is_integral<P>::value ? 1 : 2;
}

// Null, or what went wrong; the text is kept until the next launch.
template <typename... P, size_t... I>
static const char* run(const char* name, void (*kernel)(P...), const Launch& launch, std::index_sequence<I...>) {
    static const char* const kinds[] = {"a pointer", "an unsigned", "a float"};
    kernel_name = name;
    message[0] = 0;
    if (launch.n_arguments != sizeof...(P)) {
        snprintf(message, sizeof message, "kernel %s has %zu parameters, and %u arguments were passed", name,
                 sizeof...(P), launch.n_arguments);
        return message;
    }
    const unsigned wanted[] = {kind_of<P>()..., 0};
    for (unsigned i = 0; i < launch.n_arguments; i++) {
        if (launch.arguments[i].kind != wanted[i]) {
            snprintf(message, sizeof message, "parameter %u of kernel %s is %s, and %s was passed", i, name,
                     kinds[wanted[i]], kinds[launch.arguments[i].kind]);
            return message;
        }
    }
    auto call = [&] { kernel(argument<P>(launch.arguments[I])...); };
    invoke = [](const void* with) { (*(const decltype(call)*)with)(); };
    invoked = &call;
    blockDim = {launch.threads, 1, 1};
    gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
    for (unsigned z = 0; z < gridDim.z; z++) {
        for (unsigned y = 0; y < gridDim.y; y++) {
            for (unsigned x = 0; x < gridDim.x; x++) {
                begin_block(x, y, z, launch.shared_bytes);
                cwm_switch(&host_stack, self().stack_pointer);
                if (!message[0]) check_guards();
                if (message[0]) return message;
            }
        }
    }
    return nullptr;
}

template <typename... P>
static const char* run(const char* name, void (*kernel)(P...), const Launch& launch) {
    return run(name, kernel, launch, std::index_sequence_for<P...>());
}

// What the compiler's checks hand over, by their interface: the place, then what was wrong.
struct Place {
    const char* file;
    unsigned line, column;
};
struct Mismatch {
    Place place;
    const void* type;
    unsigned char log_alignment, access;
};

}  // namespace emulator

// The compiler calls these where -fsanitize=alignment,null,bounds finds something.
extern "C" void __ubsan_handle_type_mismatch_v1(emulator::Mismatch* found, void* pointer) {
    if (!pointer) emulator::fail("a null pointer is used in line %u of %s", found->place.line, found->place.file);
    emulator::fail("%p is not aligned to %u bytes, in line %u of %s", pointer, 1u << found->log_alignment,
                   found->place.line, found->place.file);
}
extern "C" void __ubsan_handle_out_of_bounds(emulator::Place* place, void* index) {
    emulator::fail("index %zd is outside its array, in line %u of %s", (ssize_t)index, place->line, place->file);
}

// ---- What common.cuh leaves to this file -------------------------------------------------------------

#define KERNEL(name)                                                                                     \
    extern "C" __attribute__((visibility("default"))) const char* name##_emulated(const emulator::Launch* launch) { \
        return emulator::run(#name, name, *launch);                                                      \
    }
#define SHARED(type, name, size) \
    type(&name)[size] = *static_cast<type(*)[size]>(emulator::region(sizeof(type) * (size)))
#define DYNAMIC_SHARED(name) unsigned char* const name = emulator::shared_memory

static void block_sync() {
    using namespace emulator;
    if (++n_at_block_sync < blockDim.x) return wait_at("block_sync");
    n_at_block_sync = 0;
    for (unsigned warp = 0; warp < blockDim.x / WARP; warp++) make_ready(warp);
}
static inline void warp_sync() {
    emulator::meet("warp_sync", 0, nullptr, [](void**, int) {});
}

template <typename T>
static T shuffle_xor(T x, int lane_mask) {
    return emulator::exchange("shuffle_xor", x, lane_mask, (emulator::current % emulator::WARP) ^ (lane_mask & 31));
}
template <typename T>
static T shuffle_down(T x, int lanes) {
    int lane = emulator::current % emulator::WARP;
    return emulator::exchange("shuffle_down", x, lanes, lane + lanes < 32 ? lane + lanes : lane);
}
// The source may differ from lane to lane.
template <typename T>
static T shuffle(T x, int lane) {
    return emulator::exchange("shuffle", x, 0, lane & 31);
}

static inline void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    emulator::MmaOperands mine = {d, a, b};
    emulator::meet("mma_bf16", 0, &mine, emulator::mma_of_warp);
}
static inline void load_matrix(unsigned (&r)[4], const unsigned short* row) {
    emulator::check_shared("load_matrix", row);
    emulator::MatrixRow mine = {row, r};
    emulator::meet("load_matrix", 0, &mine, emulator::load_of_warp<false>);
}
static inline void load_matrix_transposed(unsigned (&r)[4], const unsigned short* row) {
    emulator::check_shared("load_matrix_transposed", row);
    emulator::MatrixRow mine = {row, r};
    emulator::meet("load_matrix_transposed", 0, &mine, emulator::load_of_warp<true>);
}

static void copy_async(void* shared, const void* global, bool is_there) {
    using namespace emulator;
    check_shared("copy_async", shared);
    if (is_there && (uintptr_t)global % 16) fail("copy_async: %p is not aligned to 16 bytes", global);
    Thread& thread = self();
    if (thread.n_copies == thread.copies_capacity) {
        thread.copies_capacity = 2 * thread.copies_capacity + 16;
        thread.copies = (PendingCopy*)realloc(thread.copies, thread.copies_capacity * sizeof(PendingCopy));
        if (!thread.copies) abort();
    }
    thread.copies[thread.n_copies++] = {shared, is_there ? global : nullptr, thread.n_groups};
    memset(shared, 0xff, 16);
}
static inline void copy_async_commit() { emulator::self().n_groups++; }
template <int PENDING>
static void copy_async_wait() {
    using namespace emulator;
    Thread& thread = self();
    unsigned done = 0;
    while (done < thread.n_copies && thread.copies[done].group + PENDING < thread.n_groups) {
        PendingCopy& copy = thread.copies[done++];
        if (copy.from) memcpy(copy.to, copy.from, 16);
        else memset(copy.to, 0, 16);
    }
    thread.n_copies -= done;
    memmove(thread.copies, thread.copies + done, thread.n_copies * sizeof(PendingCopy));
}

static inline unsigned float_bits(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}
static inline float bits_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
