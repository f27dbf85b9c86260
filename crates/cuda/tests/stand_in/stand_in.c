// What crates/cuda calls of libcuda, libnvrtc, libcublasLt and libnccl, played by the processor, so that the code
// that drives them is tested without a GPU. Signatures and numbers are those of NVIDIA's headers.
//
// It is as lazy as a stream may be: work is done only when somebody waits. What was promised to be read
// before a call returned is therefore wrong if it was not. A call without a current context fails.
//
// The environment decides what is found: STAND_IN_VERSION (of CUDA, 13000), STAND_IN_INIT (what cuInit
// answers, 0), STAND_IN_CAPABILITY (90), STAND_IN_NCCL (what ncclCommInitRank answers, 0), STAND_IN_ASYNC (what
// NCCL finds out while work goes on, 0) and STAND_IN_LOG (a file that receives a line for each compilation, each
// question to the heuristic, and each group and end of a communicator).

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOT_READY = 600, SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700 };

static int setting(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}

static void note(const char *line) {
    FILE *file = fopen(getenv("STAND_IN_LOG"), "a");
    if (file) {
        fprintf(file, "%s\n", line);
        fclose(file);
    }
}

// A stream: work that was asked for. Each piece takes a millisecond.

typedef int (*work)(void *data);
typedef struct stream {
    void (*add)(struct stream *, work, void *);
    int (*is_entered)(void);
    struct { work run; void *data; } queue[4096];
    int length, now, error;
} stream;

static void add(stream *s, work run, void *data) {
    if (s->length == 4096) abort();
    s->queue[s->length].run = run;
    s->queue[s->length++].data = data;
}

static int drain(stream *s) {
    for (int i = 0; i < s->length; i++) {
        s->now++;
        if (!s->error) s->error = s->queue[i].run(s->queue[i].data);
        free(s->queue[i].data);
    }
    s->length = 0;
    return s->error;
}

// The driver.

static __thread int is_current;
static int is_entered(void) { return is_current; }
static stream the_stream = {add, is_entered};
static size_t used, total = 1 << 30;

#define IN_CONTEXT                              \
    if (!is_current) return INVALID_CONTEXT;    \
    if (the_stream.error) return the_stream.error

int cuInit(unsigned flags) { return flags ? INVALID_VALUE : setting("STAND_IN_INIT", 0); }
int cuDriverGetVersion(int *version) { *version = setting("STAND_IN_VERSION", 13000); return SUCCESS; }
int cuGetErrorString(int error, const char **text) { *text = error == ILLEGAL_ADDRESS ? "a wrong address" : "other"; return SUCCESS; }
int cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { *device = 40 + ordinal; return SUCCESS; }
int cuDeviceGetName(char *name, int length, int device) { snprintf(name, length, "Stand-in %d", device); return SUCCESS; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = device == 40 ? total : 0; return SUCCESS; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int capability = setting("STAND_IN_CAPABILITY", 90);
    switch (device == 40 ? attribute : 0) {
        case 16: *value = 132; return SUCCESS;  // multiprocessors
        case 75: *value = capability / 10; return SUCCESS;
        case 76: *value = capability % 10; return SUCCESS;
        case 115: *value = 1; return SUCCESS;  // memory pools
        default: return INVALID_VALUE;
    }
}
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &used; return device == 40 ? SUCCESS : INVALID_VALUE; }
// All memory must have come back by then, unless the context is lost.
int cuDevicePrimaryCtxRelease_v2(int device) {
    if (device != 40 || (used && !the_stream.error)) abort();
    return SUCCESS;
}
int cuCtxSetCurrent(void *context) { is_current = context == &used; return SUCCESS; }
int cuStreamCreate(stream **s, unsigned flags) { IN_CONTEXT; *s = &the_stream; return flags == 1 ? SUCCESS : INVALID_VALUE; }
int cuStreamDestroy_v2(stream *s) { IN_CONTEXT; return s->length ? INVALID_VALUE : SUCCESS; }
int cuStreamSynchronize(stream *s) { IN_CONTEXT; return drain(s); }
// Work is done when it is asked about for the second time.
int cuStreamQuery(stream *s) {
    static int asked;
    IN_CONTEXT;
    return s->length && asked++ % 2 == 0 ? NOT_READY : drain(s);
}
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    for (int i = 0; i < 16; i++) uuid[i] = 0xf0 + i;
    return device == 40 ? SUCCESS : INVALID_VALUE;
}

int cuDeviceGetDefaultMemPool(void **pool, int device) { *pool = &total; return device == 40 ? SUCCESS : INVALID_VALUE; }
int cuMemPoolSetAttribute(void *pool, int attribute, void *value) {
    return pool == &total && attribute == 4 && *(uint64_t *)value == UINT64_MAX ? SUCCESS : INVALID_VALUE;
}
// The pool keeps a mebibyte that nobody uses.
int cuMemPoolGetAttribute(void *pool, int attribute, void *value) {
    if (pool != &total || (attribute != 5 && attribute != 7)) return INVALID_VALUE;
    *(uint64_t *)value = used + (attribute == 5 ? 1 << 20 : 0);
    return SUCCESS;
}
int cuMemGetInfo_v2(size_t *free_bytes, size_t *all) { IN_CONTEXT; *free_bytes = total - used - (1 << 20); *all = total; return SUCCESS; }
int cuMemAllocAsync(uint64_t *address, size_t bytes, stream *s) {
    IN_CONTEXT;
    if (!bytes || s != &the_stream) return INVALID_VALUE;
    if (bytes > total - used) return OUT_OF_MEMORY;
    size_t *memory = aligned_alloc(256, (bytes + 511) / 256 * 256);
    memset(memory, 0xab, bytes + 256);
    *memory = bytes;
    used += bytes;
    *address = (uint64_t)memory + 256;
    return SUCCESS;
}
static int free_now(void *data) {
    size_t *memory = (size_t *)(*(uint64_t *)data - 256);
    used -= *memory;
    free(memory);
    return SUCCESS;
}
static void *boxed(const void *data, size_t bytes) { return memcpy(malloc(bytes), data, bytes); }
int cuMemFreeAsync(uint64_t address, stream *s) {
    IN_CONTEXT;
    s->add(s, free_now, boxed(&address, sizeof address));
    return SUCCESS;
}
int cuMemHostAlloc(void **memory, size_t bytes, unsigned flags) { IN_CONTEXT; *memory = malloc(bytes); return flags ? INVALID_VALUE : SUCCESS; }
int cuMemFreeHost(void *memory) { IN_CONTEXT; free(memory); return SUCCESS; }

typedef struct { uint64_t to, from; size_t bytes; } copy;
static int copy_now(void *data) {
    copy *c = data;
    memcpy((void *)c->to, (void *)c->from, c->bytes);
    return SUCCESS;
}
static int copy_later(uint64_t to, uint64_t from, size_t bytes, stream *s) {
    IN_CONTEXT;
    copy c = {to, from, bytes};
    s->add(s, copy_now, boxed(&c, sizeof c));
    return bytes ? SUCCESS : INVALID_VALUE;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, stream *s) { return copy_later(to, (uint64_t)from, bytes, s); }
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, stream *s) { return copy_later((uint64_t)to, from, bytes, s); }
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, stream *s) { return copy_later(to, from, bytes, s); }
static int zero_now(void *data) {
    copy *c = data;
    memset((void *)c->to, 0, c->bytes);
    return SUCCESS;
}
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, stream *s) {
    IN_CONTEXT;
    copy c = {to, 0, bytes};
    s->add(s, zero_now, boxed(&c, sizeof c));
    return bytes && !value ? SUCCESS : INVALID_VALUE;
}

typedef struct { int at; } event;
static int mark_now(void *data) {
    (*(event **)data)->at = the_stream.now;
    return SUCCESS;
}
int cuEventCreate(event **e, unsigned flags) { IN_CONTEXT; *e = calloc(1, sizeof(event)); return flags ? INVALID_VALUE : SUCCESS; }
int cuEventDestroy_v2(event *e) { IN_CONTEXT; free(e); return SUCCESS; }
int cuEventRecord(event *e, stream *s) { IN_CONTEXT; s->add(s, mark_now, boxed(&e, sizeof e)); return SUCCESS; }
int cuEventSynchronize(event *e) { IN_CONTEXT; return e ? drain(&the_stream) : INVALID_VALUE; }
int cuEventElapsedTime(float *milliseconds, event *from, event *to) { IN_CONTEXT; *milliseconds = to->at - from->at; return SUCCESS; }

// Kernels: `convert_to_bf16` of convert.cu, and `fill` and `fault` of the test.

typedef struct { char name[64]; int shared_bytes; } function;
typedef struct { function f; unsigned blocks, threads; uint64_t out, x; float value; unsigned n; } launch;
int cuModuleLoadData(void **module, const void *image) {
    IN_CONTEXT;
    *module = &is_current;
    return strncmp(image, "code of ", 8) ? INVALID_VALUE : SUCCESS;
}
int cuModuleUnload(void *module) { IN_CONTEXT; return module == &is_current ? SUCCESS : INVALID_VALUE; }
int cuModuleGetFunction(function **f, void *module, const char *name) {
    IN_CONTEXT;
    if (module != &is_current || (strcmp(name, "convert_to_bf16") && strcmp(name, "fill") && strcmp(name, "fault"))) return NOT_FOUND;
    *f = calloc(1, sizeof(function));
    strcpy((*f)->name, name);
    (*f)->shared_bytes = 48 << 10;
    return SUCCESS;
}
int cuFuncSetAttribute(function *f, int attribute, int value) {
    IN_CONTEXT;
    if (attribute != 8 || value > 227 << 10) return INVALID_VALUE;
    f->shared_bytes = value;
    return SUCCESS;
}
static int launch_now(void *data) {
    launch *l = data;
    if (!strcmp(l->f.name, "fault")) return ILLEGAL_ADDRESS;
    for (unsigned i = 0; i < l->n; i++) {
        if (!strcmp(l->f.name, "fill")) {
            ((float *)l->out)[i] = l->value;
        } else if (i < 4 * l->blocks * l->threads) {
            uint32_t bits = ((uint32_t *)l->x)[i];
            ((uint16_t *)l->out)[i] = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        }
    }
    return SUCCESS;
}
int cuLaunchKernel(function *f, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y, unsigned threads_z,
                   unsigned shared_bytes, stream *s, void **arguments, void **extra) {
    IN_CONTEXT;
    if (!x || y != 1 || z != 1 || threads_y != 1 || threads_z != 1 || extra || (int)shared_bytes > f->shared_bytes) return INVALID_VALUE;
    launch l = {*f, x, threads};
    if (strcmp(f->name, "fault")) {
        l.out = *(uint64_t *)arguments[0];
        if (strcmp(f->name, "fill")) l.x = *(uint64_t *)arguments[1];
        else l.value = *(float *)arguments[1];
        l.n = *(unsigned *)arguments[2];
    }
    s->add(s, launch_now, boxed(&l, sizeof l));
    return SUCCESS;
}

// The compiler: its code is the name of the source.

typedef struct { char name[64]; } program;
int nvrtcVersion(int *major, int *minor) { *major = 13; *minor = 0; return 0; }
const char *nvrtcGetErrorString(int error) { return error ? "an error" : "none"; }
int nvrtcCreateProgram(program **p, const char *text, const char *name, int headers, const char **header, const char **include) {
    if (headers != 1 || strcmp(include[0], "common.cuh") || !strstr(header[0], "block_sync") || !strstr(text, "#include \"common.cuh\"")) return 3;
    *p = calloc(1, sizeof(program));
    snprintf((*p)->name, sizeof (*p)->name, "%s", name);
    return 0;
}
int nvrtcDestroyProgram(program **p) { free(*p); return 0; }
int nvrtcCompileProgram(program *p, int count, const char **options) {
    note(p->name);
    for (int i = 0; i < count; i++)
        if (!strcmp(options[i], "--gpu-architecture=sm_90")) return 0;
    return 5;
}
int nvrtcGetProgramLogSize(program *p, size_t *bytes) { *bytes = p ? 1 : 0; return 0; }
int nvrtcGetProgramLog(program *p, char *log) { *log = 0; return p ? 0 : 1; }
int nvrtcGetCUBINSize(program *p, size_t *bytes) { *bytes = strlen(p->name) + 9; return 0; }
int nvrtcGetCUBIN(program *p, char *code) { sprintf(code, "code of %s", p->name); return 0; }

// Matrix products, by columns. Types: 0 is f32, 14 is bf16.

typedef struct { int type; uint64_t rows, columns; int64_t stride; } layout;
typedef struct { int is_transposed[2]; } operation;
typedef struct { size_t workspace; uint32_t reduction, alignment[4]; } preference;
typedef struct { uint64_t data[8]; } algorithm;
typedef struct { algorithm a; size_t workspace; int state; float waves; int reserved[4]; } found;
typedef struct { operation o; layout a, b, c; uint64_t a_at, b_at, c_at; float beta; } product;
int cublasLtCreate(void **handle) { *handle = &total; return 0; }
int cublasLtDestroy(void *handle) { return handle == &total ? 0 : 7; }
const char *cublasLtGetStatusName(int status) { return status == 15 ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS_INVALID_VALUE"; }
int cublasLtMatmulDescCreate(operation **o, int compute, int scale) { *o = calloc(1, sizeof(operation)); return compute == 68 && scale == 0 ? 0 : 7; }
int cublasLtMatmulDescDestroy(operation *o) { free(o); return 0; }
int cublasLtMatmulDescSetAttribute(operation *o, int attribute, const int *value, size_t bytes) {
    if (bytes != 4 || attribute < 3 || attribute > 4) return 7;
    o->is_transposed[attribute - 3] = *value;
    return 0;
}
int cublasLtMatrixLayoutCreate(layout **l, int type, uint64_t rows, uint64_t columns, int64_t stride) {
    layout it = {type, rows, columns, stride};
    *l = boxed(&it, sizeof it);
    return stride >= (int64_t)rows ? 0 : 7;
}
int cublasLtMatrixLayoutDestroy(layout *l) { free(l); return 0; }
int cublasLtMatmulPreferenceCreate(preference **p) { *p = calloc(1, sizeof(preference)); (*p)->reduction = 7; return 0; }
int cublasLtMatmulPreferenceDestroy(preference *p) { free(p); return 0; }
int cublasLtMatmulPreferenceSetAttribute(preference *p, int attribute, const void *value, size_t bytes) {
    if (attribute == 1 && bytes == 8) p->workspace = *(uint64_t *)value;
    else if (attribute == 3 && bytes == 4) p->reduction = *(uint32_t *)value;
    else if (attribute >= 5 && attribute <= 8 && bytes == 4) p->alignment[attribute - 5] = *(uint32_t *)value;
    else return 7;
    return 0;
}
// The algorithm relies on the alignments that it was told.
int cublasLtMatmulAlgoGetHeuristic(void *handle, operation *o, layout *a, layout *b, layout *c, layout *d, preference *p, int wanted, found *f, int *count) {
    note("heuristic");
    *count = 0;
    if (handle != &total || !o || !a || !b || c != d || wanted != 1) return 7;
    if (a->columns == 13 || b->rows == 13) return 0;  // a length of sums that nothing can do
    if (c->type == 14 && p->reduction != 2) return 7;  // parts would be added in bf16
    memset(f, 0, sizeof *f);
    for (int i = 0; i < 4; i++) f->a.data[i] = p->alignment[i];
    f->a.data[4] = p->workspace;
    *count = 1;
    return 0;
}
static float number(uint64_t at, int type, int64_t index) {
    uint32_t bits = type ? (uint32_t)((uint16_t *)at)[index] << 16 : ((uint32_t *)at)[index];
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static int multiply_now(void *data) {
    product *p = data;
    uint64_t k = p->o.is_transposed[0] ? p->a.rows : p->a.columns;
    for (uint64_t column = 0; column < p->c.columns; column++) {
        for (uint64_t row = 0; row < p->c.rows; row++) {
            float sum = 0;
            for (uint64_t i = 0; i < k; i++) {
                int64_t a = p->o.is_transposed[0] ? i + row * p->a.stride : row + i * p->a.stride;
                int64_t b = p->o.is_transposed[1] ? column + i * p->b.stride : i + column * p->b.stride;
                sum += number(p->a_at, p->a.type, a) * number(p->b_at, p->b.type, b);
            }
            int64_t at = row + column * p->c.stride;
            if (p->beta) sum += number(p->c_at, p->c.type, at);
            uint32_t bits;
            memcpy(&bits, &sum, 4);
            if (p->c.type) ((uint16_t *)p->c_at)[at] = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
            else ((uint32_t *)p->c_at)[at] = bits;
        }
    }
    return 0;
}
int cublasLtMatmul(void *handle, operation *o, const float *alpha, uint64_t a, layout *al, uint64_t b, layout *bl, const float *beta,
                   uint64_t c, layout *cl, uint64_t d, layout *dl, const algorithm *chosen, void *workspace, size_t bytes, stream *s) {
    if (handle != &total || *alpha != 1 || c != d || cl != dl || !workspace || bytes < chosen->data[4]) return 7;
    uint64_t at[4] = {a, b, c, d};
    for (int i = 0; i < 4; i++)
        if (!chosen->data[i] || at[i] % chosen->data[i]) return 7;
    product p = {*o, *al, *bl, *cl, a, b, c, *beta};
    s->add(s, multiply_now, boxed(&p, sizeof p));
    return 0;
}

// Sums over GPUs. The other ranks have the same numbers as this one to add, and to send 100 for each number of
// their rank. Work of a communicator must be in a group.

typedef struct { char bytes[128]; } id;
typedef struct { int rank, size; } communicator;
typedef struct { float *values; size_t count; float factor, term; } change;
static int group_depth;
int ncclGetVersion(int *version) { *version = 22703; return 0; }
const char *ncclGetErrorString(int status) { return status == 6 ? "remote process exited" : status == 5 ? "invalid usage" : "some error"; }
const char *ncclGetLastError(void *c) { return c ? "" : "the last error\n"; }
int ncclGetUniqueId(id *i) {
    for (int at = 0; at < 128; at++) i->bytes[at] = 255 - at;
    return 0;
}
int ncclCommInitRank(communicator **c, int size, id i, int rank) {
    for (int at = 0; at < 128; at++)
        if (i.bytes[at] != (char)(255 - at)) return 4;
    communicator it = {rank, size};
    *c = boxed(&it, sizeof it);
    return rank < size ? setting("STAND_IN_NCCL", 0) : 4;
}
int ncclCommGetAsyncError(communicator *c, int *status) { *status = setting("STAND_IN_ASYNC", 0); return c->size ? 0 : 4; }
int ncclCommDestroy(communicator *c) { note("destroyed"); free(c); return 0; }
int ncclCommAbort(communicator *c) { note("aborted"); free(c); return 0; }
int ncclGroupStart(void) { group_depth++; return 0; }
int ncclGroupEnd(void) { note("group"); return --group_depth ? 5 : 0; }
static int change_now(void *data) {
    change *c = data;
    for (size_t i = 0; i < c->count; i++) c->values[i] = c->values[i] * c->factor + c->term;
    return 0;
}
static int change_later(const void *from, float *to, size_t count, int type, int root, communicator *c, stream *s, float factor, float term) {
    if (group_depth != 1 || from != to || !count || type != 7 || root < 0 || root >= c->size || !s->is_entered()) return 5;
    change it = {to, count, factor, term};
    s->add(s, change_now, boxed(&it, sizeof it));
    return 0;
}
int ncclReduce(const void *from, void *to, size_t count, int type, int operation, int root, communicator *c, stream *s) {
    return operation ? 4 : change_later(from, to, count, type, root, c, s, root == c->rank ? c->size : 1, 0);
}
int ncclBroadcast(const void *from, void *to, size_t count, int type, int root, communicator *c, stream *s) {
    int is_own = root == c->rank;
    return change_later(from, to, count, type, root, c, s, is_own, is_own ? 0 : 100 * root);
}
