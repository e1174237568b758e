// The fused operations on the GPU. Matrices are row-major f32; rows of all sequences stand end to end. No sum is left to the
// order in which threads happen to run, so the same inputs give the same bits.
//
// Unless a comment says otherwise a warp has one row, and blocks are of WARPS warps.

#include <math.h>

#define WARP 32
#define WARPS 8
// The most keys of a sequence, as MAX_KEYS in attention.rs.
#define MAX_KEYS 256
#define KEYS_A_LANE (MAX_KEYS / WARP)
// Columns and rows of a block that sums columns.
#define SUM_COLUMNS 8
#define SUM_ROWS 128

// A dropout site, as Mask in dropout.rs: the same elements are dropped as on the CPU.
struct Mask {
    unsigned low, high, threshold;
    float scale;
};

__device__ __forceinline__ float factor(Mask mask, unsigned index) {
    unsigned x = index + mask.low;
    x = ((x ^ (x >> 16)) * 0x21f0aaadu) ^ mask.high;
    x = (x ^ (x >> 15)) * 0xd35a2d97u;
    x = x ^ (x >> 15);
    return x >= mask.threshold ? mask.scale : 0.0f;
}

__device__ __forceinline__ float warp_sum(float x) {
    for (int lane = WARP / 2; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
    for (int lane = WARP / 2; lane > 0; lane /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, lane));
    return x;
}

// The sum over a block of a value a thread; every thread gets it.
__device__ float block_sum(float x) {
    __shared__ float sums[WARP];
    x = warp_sum(x);
    __syncthreads(); // a sum before this one has been read
    if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = x;
    __syncthreads();
    float total = 0.0f;
    for (int warp = 0; warp < blockDim.x / WARP; warp++) total += sums[warp];
    return total;
}

__device__ float block_max(float x) {
    __shared__ float highest[WARP];
    x = warp_max(x);
    __syncthreads();
    if (threadIdx.x % WARP == 0) highest[threadIdx.x / WARP] = x;
    __syncthreads();
    float total = highest[0];
    for (int warp = 1; warp < blockDim.x / WARP; warp++) total = fmaxf(total, highest[warp]);
    return total;
}

#define ROW (blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP)
#define LANE (threadIdx.x % WARP)
#define ELEMENT (blockIdx.x * (size_t)blockDim.x + threadIdx.x)

// --- rows ---------------------------------------------------------------------------------------------------------------

// y[row] = table[ids[row]]. A thread an element.
extern "C" __global__ void gather(float *y, const float *table, const unsigned *ids, int n, int d) {
    size_t i = ELEMENT;
    if (i < (size_t)n * d) y[i] = table[(size_t)ids[i / d] * d + i % d];
}

// table[ids[row]] += x[row], each id once. A thread an element.
extern "C" __global__ void add_at(float *table, const float *x, const unsigned *ids, int n, int d) {
    size_t i = ELEMENT;
    if (i < (size_t)n * d) table[(size_t)ids[i / d] * d + i % d] += x[i];
}

// table[ids[i]] = the sum of rows order[starts[i]..starts[i + 1]] of g, in parts of every WARPS-th. A block an id.
extern "C" __global__ void sum_at(
    float *table, const float *g, const unsigned *ids, const unsigned *starts, const unsigned *order, int d
) {
    __shared__ float parts[WARPS][WARP];
    unsigned begin = starts[blockIdx.x], end = starts[blockIdx.x + 1];
    int warp = threadIdx.x / WARP, lane = LANE;
    for (int first = 0; first < d; first += WARP) {
        int c = first + lane;
        float sum = 0.0f;
        if (c < d)
            for (unsigned i = begin + warp; i < end; i += WARPS) sum += g[(size_t)order[i] * d + c];
        parts[warp][lane] = sum;
        __syncthreads();
        if (warp == 0 && c < d) {
            for (int w = 1; w < WARPS; w++) sum += parts[w][lane];
            table[(size_t)ids[blockIdx.x] * d + c] = sum;
        }
        __syncthreads();
    }
}

// out = the column sums of a∘b, or of a where there is no b. A block SUM_COLUMNS columns, a thread every SUM_ROWS-th row.
__device__ void sum_columns(float *out, const float *a, const float *b, int n, int d) {
    __shared__ float parts[SUM_ROWS][SUM_COLUMNS + 1];
    int c = blockIdx.x * SUM_COLUMNS + threadIdx.x % SUM_COLUMNS, row = threadIdx.x / SUM_COLUMNS;
    float sum = 0.0f;
    if (c < d)
        for (int r = row; r < n; r += SUM_ROWS) {
            size_t i = (size_t)r * d + c;
            sum += b == nullptr ? a[i] : a[i] * b[i];
        }
    __syncthreads(); // parts of a sum before this one have been read
    parts[row][threadIdx.x % SUM_COLUMNS] = sum;
    for (int half = SUM_ROWS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (row < half) parts[row][threadIdx.x % SUM_COLUMNS] += parts[row + half][threadIdx.x % SUM_COLUMNS];
    }
    if (row == 0 && c < d) out[c] = parts[0][threadIdx.x % SUM_COLUMNS];
}

extern "C" __global__ void column_sums(float *out, const float *x, int n, int d) { sum_columns(out, x, nullptr, n, d); }

// What add_norm_backward leaves to sum: dw = Σ g∘x̂, db = Σ g and, where wanted, dbias = Σ dropped. The grid's second
// dimension chooses.
extern "C" __global__ void norm_column_sums(
    float *dw, float *db, float *dbias, const float *g, const float *normal, const float *dropped, int n, int d
) {
    if (blockIdx.y == 0)
        sum_columns(dw, g, normal, n, d);
    else if (blockIdx.y == 1)
        sum_columns(db, g, nullptr, n, d);
    else
        sum_columns(dbias, dropped, nullptr, n, d);
}

// --- elementwise --------------------------------------------------------------------------------------------------------

// y = base + dropout(x); base may be absent. A thread an element.
extern "C" __global__ void dropout(float *y, const float *x, const float *base, Mask mask, size_t n) {
    size_t i = ELEMENT;
    if (i < n) y[i] = (base == nullptr ? 0.0f : base[i]) + factor(mask, (unsigned)i) * x[i];
}

__device__ __forceinline__ void gelu(float x, float *value, float *slope) {
    const float root = 0.7978846f, cubic = 0.044715f;
    float t = tanhf(root * (x + cubic * x * x * x));
    *value = 0.5f * x * (1.0f + t);
    *slope = 0.5f * (1.0f + t + x * (1.0f - t * t) * root * (1.0f + 3.0f * cubic * x * x));
}

// y = gelu(x + bias); the bias may be absent. A thread an element.
extern "C" __global__ void gelu_forward(float *y, const float *x, const float *bias, size_t n, int d) {
    size_t i = ELEMENT;
    float slope;
    if (i < n) gelu(x[i] + (bias == nullptr ? 0.0f : bias[i % d]), &y[i], &slope);
}

// dx = the gradient g of gelu(x + bias) to that of x; dx may be g.
extern "C" __global__ void gelu_backward(float *dx, const float *g, const float *x, const float *bias, size_t n, int d) {
    size_t i = ELEMENT;
    if (i >= n) return;
    float value, slope;
    gelu(x[i] + (bias == nullptr ? 0.0f : bias[i % d]), &value, &slope);
    dx[i] = g[i] * slope;
}

// x *= factor·by, of which one lies in GPU memory. A thread an element.
extern "C" __global__ void scale(float *x, const float *factor, float by, size_t n) {
    size_t i = ELEMENT;
    if (i < n) x[i] *= *factor * by;
}

// --- layer norm ---------------------------------------------------------------------------------------------------------

// normal = the rows x = residual + dropout(out + bias), brought to mean 0 and variance 1; y = normal∘w + b. Bias and residual
// may be absent, `normal` may be `out`.
extern "C" __global__ void add_norm(
    float *y, float *normal, float *rstd, const float *out, const float *bias, const float *residual, Mask mask,
    const float *w, const float *b, float eps, int n, int d
) {
    int row = ROW;
    if (row >= n) return;
    size_t first = (size_t)row * d;
    float sum = 0.0f;
    for (int c = LANE; c < d; c += WARP) {
        float x = out[first + c];
        if (bias != nullptr) x += bias[c];
        x *= factor(mask, (unsigned)(first + c));
        if (residual != nullptr) x += residual[first + c];
        normal[first + c] = x;
        sum += x;
    }
    float mean = warp_sum(sum) / d, squares = 0.0f;
    for (int c = LANE; c < d; c += WARP) {
        float x = normal[first + c] - mean;
        squares += x * x;
    }
    float r = rsqrtf(warp_sum(squares) / d + eps);
    for (int c = LANE; c < d; c += WARP) {
        float x = (normal[first + c] - mean) * r;
        normal[first + c] = x;
        y[first + c] = x * w[c] + b[c];
    }
    if (LANE == 0) rstd[row] = r;
}

// dx = the gradient of what was normalised, dropped = that of the sublayer's output before dropout, where wanted.
extern "C" __global__ void add_norm_backward(
    float *dx, float *dropped, const float *g, const float *normal, const float *rstd, const float *w, Mask mask, int n, int d
) {
    int row = ROW;
    if (row >= n) return;
    size_t first = (size_t)row * d;
    float sum = 0.0f, product = 0.0f;
    for (int c = LANE; c < d; c += WARP) {
        float h = g[first + c] * w[c];
        sum += h;
        product += h * normal[first + c];
    }
    float mean = warp_sum(sum) / d, mean_x = warp_sum(product) / d, r = rstd[row];
    for (int c = LANE; c < d; c += WARP) {
        float x = r * (g[first + c] * w[c] - mean - normal[first + c] * mean_x);
        dx[first + c] = x;
        if (dropped != nullptr) dropped[first + c] = factor(mask, (unsigned)(first + c)) * x;
    }
}

// --- attention ----------------------------------------------------------------------------------------------------------

// Rows of queries and of keys and values lie `stride` apart; keys and values of a row side by side, `d` each. A warp has one
// query row (or key row) and one head.
struct Rows {
    // Sequence of each query row, and first rows of each sequence.
    const unsigned *owner, *first_query, *first_key;
    // How many keys a query row sees, from the first on; may be absent: then all.
    const unsigned *seen;
    int heads, d, query_stride, key_stride;
};

__device__ __forceinline__ float dot(const float *a, const float *b, int n) {
    float sum = 0.0f;
    if (n % 4 == 0) { // heads begin at multiples of 16 bytes then
        for (int i = 0; i < n; i += 4) {
            float4 x = *(const float4 *)(a + i), y = *(const float4 *)(b + i);
            sum += x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
        }
    } else {
        for (int i = 0; i < n; i++) sum += a[i] * b[i];
    }
    return sum;
}

// The probabilities of one query over its keys, lane by lane; how many it sees comes back.
__device__ int probabilities(Rows rows, const float *q, const float *kv, int row, int head, float *p, int *first_key) {
    unsigned s = rows.owner[row];
    int begin = rows.first_key[s], keys = rows.first_key[s + 1] - begin, width = rows.d / rows.heads;
    int seen = rows.seen != nullptr ? (int)rows.seen[row] : keys;
    const float *query = q + (size_t)row * rows.query_stride + head * width;
    float highest = -INFINITY, sum = 0.0f, scale = rsqrtf((float)width);
#pragma unroll
    for (int k = 0; k < KEYS_A_LANE; k++) {
        int j = k * WARP + LANE;
        p[k] = -INFINITY;
        if (j < seen) p[k] = dot(query, kv + (size_t)(begin + j) * rows.key_stride + head * width, width) * scale;
        highest = fmaxf(highest, p[k]);
    }
    highest = warp_max(highest);
#pragma unroll
    for (int k = 0; k < KEYS_A_LANE; k++) {
        p[k] = k * WARP + LANE < seen ? expf(p[k] - highest) : 0.0f;
        sum += p[k];
    }
    float inverse = seen > 0 ? 1.0f / warp_sum(sum) : 0.0f;
#pragma unroll
    for (int k = 0; k < KEYS_A_LANE; k++) p[k] *= inverse;
    *first_key = begin;
    return seen;
}

__device__ __forceinline__ unsigned site(Rows rows, int row, int head, int key) {
    return (unsigned)((row * rows.heads + head) * MAX_KEYS + key);
}

// out = dropout(softmax(q·kᵀ/√width))·v.
extern "C" __global__ void attention_forward(float *out, const float *q, const float *kv, Rows rows, Mask mask, int n) {
    __shared__ float shared[WARPS][MAX_KEYS];
    float *weights = shared[threadIdx.x / WARP];
    int unit = ROW;
    if (unit >= n * rows.heads) return;
    int row = unit / rows.heads, head = unit % rows.heads, width = rows.d / rows.heads, begin;
    float p[KEYS_A_LANE];
    int seen = probabilities(rows, q, kv, row, head, p, &begin);
#pragma unroll
    for (int k = 0; k < KEYS_A_LANE; k++) {
        int j = k * WARP + LANE;
        if (j < seen) weights[j] = p[k] * factor(mask, site(rows, row, head, j));
    }
    __syncwarp();
    const float *values = kv + rows.d + head * width;
    for (int c = LANE; c < width; c += WARP) {
        float sum = 0.0f;
        for (int j = 0; j < seen; j++) sum += weights[j] * values[(size_t)(begin + j) * rows.key_stride + c];
        out[(size_t)row * rows.d + head * width + c] = sum;
    }
}

// dq; and for attention_backward_kv the dropped probabilities and the scores' gradients, [rows, heads, most] each.
extern "C" __global__ void attention_backward_q(
    float *dq, float *dropped, float *dscores, const float *g, const float *q, const float *kv, Rows rows, Mask mask,
    int n, int most
) {
    __shared__ float shared[WARPS][MAX_KEYS];
    float *ds = shared[threadIdx.x / WARP];
    int unit = ROW;
    if (unit >= n * rows.heads) return;
    int row = unit / rows.heads, head = unit % rows.heads, width = rows.d / rows.heads, begin;
    float p[KEYS_A_LANE], dp[KEYS_A_LANE], product = 0.0f, scale = rsqrtf((float)width);
    int seen = probabilities(rows, q, kv, row, head, p, &begin);
    const float *out = g + (size_t)row * rows.d + head * width, *keys = kv + head * width, *values = keys + rows.d;
    size_t scratch = (size_t)unit * most;
#pragma unroll
    for (int k = 0; k < KEYS_A_LANE; k++) {
        int j = k * WARP + LANE;
        dp[k] = 0.0f;
        if (j < seen) {
            float f = factor(mask, site(rows, row, head, j));
            dp[k] = f * dot(out, values + (size_t)(begin + j) * rows.key_stride, width);
            dropped[scratch + j] = f * p[k];
        }
        product += p[k] * dp[k];
    }
    product = warp_sum(product);
#pragma unroll
    for (int k = 0; k < KEYS_A_LANE; k++) {
        int j = k * WARP + LANE;
        if (j < seen) dscores[scratch + j] = ds[j] = p[k] * (dp[k] - product) * scale;
    }
    for (int j = seen + LANE; j < most; j += WARP) dropped[scratch + j] = dscores[scratch + j] = 0.0f;
    __syncwarp();
    for (int c = LANE; c < width; c += WARP) {
        float sum = 0.0f;
        for (int j = 0; j < seen; j++) sum += ds[j] * keys[(size_t)(begin + j) * rows.key_stride + c];
        dq[(size_t)row * rows.query_stride + head * width + c] = sum;
    }
}

// dk = dsᵀ·q, dv = pᵀ·g. A warp has a key row and a head; `owner` here is of key rows.
extern "C" __global__ void attention_backward_kv(
    float *dkv, const float *dropped, const float *dscores, const float *g, const float *q, Rows rows, int n, int most
) {
    int unit = ROW;
    if (unit >= n * rows.heads) return;
    int key = unit / rows.heads, head = unit % rows.heads, width = rows.d / rows.heads;
    unsigned s = rows.owner[key];
    int begin = rows.first_query[s], end = rows.first_query[s + 1], j = key - rows.first_key[s];
    for (int c = LANE; c < width; c += WARP) {
        float dk = 0.0f, dv = 0.0f;
        for (int row = begin; row < end; row++) {
            size_t scratch = ((size_t)row * rows.heads + head) * most + j;
            dk += dscores[scratch] * q[(size_t)row * rows.query_stride + head * width + c];
            dv += dropped[scratch] * g[(size_t)row * rows.d + head * width + c];
        }
        float *out = dkv + (size_t)key * rows.key_stride + head * width + c;
        out[0] = dk;
        out[rows.d] = dv;
    }
}

// Attention of a query over one row of every step, rows[step·n + query] of past[step] [_, 2·d]. A warp has a query and a head.
extern "C" __global__ void prefix_attention(
    float *out, const float *q, const float *const *past, const unsigned *rows, int steps, int n, int d, int heads
) {
    __shared__ float shared[WARPS][MAX_KEYS];
    float *p = shared[threadIdx.x / WARP];
    int unit = ROW;
    if (unit >= n * heads) return;
    int query = unit / heads, width = d / heads;
    size_t first = (size_t)query * d + unit % heads * width;
    float highest = -INFINITY, sum = 0.0f, scale = rsqrtf((float)width);
    for (int step = 0; step < steps; step++) {
        const float *key = past[step] + (size_t)rows[(size_t)step * n + query] * 2 * d + unit % heads * width;
        float product = 0.0f;
        for (int c = LANE; c < width; c += WARP) product += q[first + c] * key[c];
        product = warp_sum(product) * scale;
        highest = fmaxf(highest, product);
        if (LANE == 0) p[step] = product;
    }
    __syncwarp();
    for (int step = 0; step < steps; step++) sum += expf(p[step] - highest);
    for (int c = LANE; c < width; c += WARP) {
        float mixed = 0.0f;
        for (int step = 0; step < steps; step++) {
            const float *value = past[step] + (size_t)rows[(size_t)step * n + query] * 2 * d + d + unit % heads * width;
            mixed += expf(p[step] - highest) * value[c];
        }
        out[first + c] = mixed / sum;
    }
}

// --- frequency filter ---------------------------------------------------------------------------------------------------

// Sequences, what is made of them, and the low pass [outputs, length]: see LowPass in frequency.rs. source[o] is the row of
// output o, first_output[s] the first output of sequence s.
struct Filter {
    const float *matrix;
    const unsigned *owner, *first, *source, *first_output;
    int outputs, length;
};

// The low pass's factors of output row `row` of x, for its sequence's positions.
__device__ __forceinline__ const float *factors(Filter filter, unsigned begin, unsigned end, unsigned row) {
    int from_end = end - 1 - row;
    return filter.matrix + (size_t)(filter.outputs - 1 - from_end) * filter.length + filter.length - (end - begin);
}

// y = low + scale²∘(x - low). Or, with the output's gradient g, y = 2·scale∘(x - low)∘g, whose column sums are the scale's
// gradient. A thread an element of the output.
extern "C" __global__ void frequency_filter(
    float *y, const float *x, const float *scale, const float *g, Filter filter, int n, int d
) {
    size_t i = ELEMENT;
    if (i >= (size_t)n * d) return;
    unsigned row = filter.source[i / d], s = filter.owner[row], begin = filter.first[s], end = filter.first[s + 1];
    const float *own = factors(filter, begin, end, row);
    int c = i % d;
    float low = 0.0f, by = scale[c];
    for (unsigned t = begin; t < end; t++) low += own[t - begin] * x[(size_t)t * d + c];
    float high = x[(size_t)row * d + c] - low;
    y[i] = g == nullptr ? low + by * by * high : 2.0f * by * high * g[i];
}

// dx = lowᵀ((1 - scale²)∘g) + scale²∘g. A thread an element of x.
extern "C" __global__ void frequency_filter_backward(
    float *dx, const float *scale, const float *g, Filter filter, int n, int d
) {
    size_t i = ELEMENT;
    if (i >= (size_t)n * d) return;
    unsigned row = i / d, s = filter.owner[row], begin = filter.first[s], end = filter.first[s + 1];
    int c = i % d;
    float sum = 0.0f, own = 0.0f, by = scale[c] * scale[c];
    for (unsigned o = filter.first_output[s]; o < filter.first_output[s + 1]; o++) {
        float grad = g[(size_t)o * d + c];
        unsigned source = filter.source[o];
        sum += factors(filter, begin, end, source)[row - begin] * (1.0f - by) * grad;
        if (source == row) own = by * grad;
    }
    dx[i] = sum + own;
}

// --- cross-entropy ------------------------------------------------------------------------------------------------------

// A row's logits to probabilities, minus one at the target, and its loss. A block a row.
__device__ void softmax_row(float *logits, int n, int target, float *loss) {
    float highest = -INFINITY, sum = 0.0f;
    for (int j = threadIdx.x; j < n; j += blockDim.x) highest = fmaxf(highest, logits[j]);
    highest = block_max(highest);
    float chosen = logits[target];
    __syncthreads();
    for (int j = threadIdx.x; j < n; j += blockDim.x) {
        float p = expf(logits[j] - highest);
        logits[j] = p;
        sum += p;
    }
    sum = block_sum(sum);
    for (int j = threadIdx.x; j < n; j += blockDim.x) logits[j] = logits[j] / sum - (j == target ? 1.0f : 0.0f);
    if (threadIdx.x == 0) *loss = logf(sum) + highest - chosen;
}

extern "C" __global__ void softmax_rows(float *logits, float *losses, const unsigned *targets, int items) {
    softmax_row(logits + (size_t)blockIdx.x * items, items, targets[blockIdx.x], losses + blockIdx.x);
}

// For each row its table rows: where they begin, how many, where their logits lie, and which is the target among them.
struct Ranges {
    const unsigned *first, *count, *place, *target;
};

// Logits of a row over its own range of the table, then as softmax_rows.
extern "C" __global__ void tree_softmax(
    float *logits, float *losses, const float *hidden, const float *table, Ranges ranges, int d
) {
    int row = blockIdx.x, n = ranges.count[row];
    const float *own = hidden + (size_t)row * d, *rows = table + (size_t)ranges.first[row] * d;
    float *out = logits + ranges.place[row];
    for (int j = threadIdx.x / WARP; j < n; j += blockDim.x / WARP) {
        float sum = 0.0f;
        for (int c = LANE; c < d; c += WARP) sum += own[c] * rows[(size_t)j * d + c];
        sum = warp_sum(sum);
        if (LANE == 0) out[j] = sum;
    }
    __syncthreads();
    softmax_row(out, n, ranges.target[row], losses + row);
}

// Log-probabilities of a row over its own range of the table. A block a row; `target` is not read.
extern "C" __global__ void tree_scores(float *scores, const float *hidden, const float *table, Ranges ranges, int d) {
    int row = blockIdx.x, n = ranges.count[row];
    const float *own = hidden + (size_t)row * d, *rows = table + (size_t)ranges.first[row] * d;
    float *out = scores + ranges.place[row], highest = -INFINITY, sum = 0.0f;
    for (int j = threadIdx.x / WARP; j < n; j += blockDim.x / WARP) {
        float product = 0.0f;
        for (int c = LANE; c < d; c += WARP) product += own[c] * rows[(size_t)j * d + c];
        product = warp_sum(product);
        if (LANE == 0) out[j] = product;
    }
    __syncthreads();
    for (int j = threadIdx.x; j < n; j += blockDim.x) highest = fmaxf(highest, out[j]);
    highest = block_max(highest);
    for (int j = threadIdx.x; j < n; j += blockDim.x) sum += expf(out[j] - highest);
    float normaliser = logf(block_sum(sum)) + highest;
    for (int j = threadIdx.x; j < n; j += blockDim.x) out[j] -= normaliser;
}

// dhidden = dlogits·table[range]·grad·by. A block a row.
extern "C" __global__ void tree_dhidden(
    float *dhidden, const float *dlogits, const float *table, const float *grad, float by, Ranges ranges, int d
) {
    __shared__ float parts[WARPS][WARP];
    int row = blockIdx.x, n = ranges.count[row], warp = threadIdx.x / WARP;
    const float *own = dlogits + ranges.place[row], *rows = table + (size_t)ranges.first[row] * d;
    float scale = *grad * by;
    for (int first = 0; first < d; first += WARP) {
        int c = first + LANE;
        float sum = 0.0f;
        if (c < d)
            for (int j = warp; j < n; j += WARPS) sum += own[j] * rows[(size_t)j * d + c];
        parts[warp][LANE] = sum;
        __syncthreads();
        if (warp == 0 && c < d) {
            for (int w = 1; w < WARPS; w++) sum += parts[w][LANE];
            dhidden[(size_t)row * d + c] = sum * scale;
        }
        __syncthreads();
    }
}

// dtable[node] = Σ over the rows whose range has the node of dlogits·hidden·grad·by. A block a node; rows[starts[i]..] are
// the rows of group i.
extern "C" __global__ void tree_dtable(
    float *dtable, const float *dlogits, const float *hidden, const float *grad, float by, Ranges ranges,
    const unsigned *nodes, const unsigned *groups, const unsigned *starts, const unsigned *rows, int d
) {
    __shared__ float parts[WARPS][WARP];
    unsigned node = nodes[blockIdx.x], group = groups[blockIdx.x];
    unsigned begin = starts[group], end = starts[group + 1];
    int warp = threadIdx.x / WARP;
    float scale = *grad * by;
    for (int first = 0; first < d; first += WARP) {
        int c = first + LANE;
        float sum = 0.0f;
        if (c < d)
            for (unsigned i = begin + warp; i < end; i += WARPS) {
                unsigned row = rows[i];
                sum += dlogits[ranges.place[row] + node - ranges.first[row]] * hidden[(size_t)row * d + c];
            }
        parts[warp][LANE] = sum;
        __syncthreads();
        if (warp == 0 && c < d) {
            for (int w = 1; w < WARPS; w++) sum += parts[w][LANE];
            dtable[(size_t)node * d + c] = sum * scale;
        }
        __syncthreads();
    }
}

// parts[block] = the block's share of Σ h(x - y), h(z) = z²/2 where |z| < 1, else |z| - 1/2; slopes = h'.
extern "C" __global__ void smooth_l1(float *parts, float *slopes, const float *x, const float *y, size_t n) {
    float sum = 0.0f;
    for (size_t i = ELEMENT; i < n; i += (size_t)gridDim.x * blockDim.x) {
        float z = x[i] - y[i], slope = fminf(fmaxf(z, -1.0f), 1.0f);
        slopes[i] = slope;
        sum += slope * (z - 0.5f * slope);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// parts[block] = the block's share of the binary cross-entropy of logits of one label; slopes = its derivatives.
extern "C" __global__ void logistic(float *parts, float *slopes, const float *x, float label, size_t n) {
    float sum = 0.0f;
    for (size_t i = ELEMENT; i < n; i += (size_t)gridDim.x * blockDim.x) {
        float e = expf(-fabsf(x[i])), p = (x[i] >= 0.0f ? 1.0f : e) / (1.0f + e);
        slopes[i] = p - label;
        sum += fmaxf(x[i], 0.0f) - x[i] * label + log1pf(e);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// out = Σ x / by, of n. One block.
extern "C" __global__ void mean(float *out, const float *x, int n, float by) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *out = sum / by;
}

// --- optimiser ----------------------------------------------------------------------------------------------------------

// A parameter, its moments and its gradient. `highest` may be absent; `decayed` says which of the n elements are decayed, and
// where it is absent `all` says whether they are.
struct Slot {
    float *p, *m, *v, *highest;
    const float *g;
    const unsigned char *decayed;
    size_t n, all;
};

// The sums of squares of the gradients, a part a block: the grid's second dimension chooses the slot.
extern "C" __global__ void squares(float *parts, const Slot *slots) {
    Slot slot = slots[blockIdx.y];
    float sum = 0.0f;
    for (size_t i = ELEMENT; i < slot.n; i += (size_t)gridDim.x * blockDim.x) sum += slot.g[i] * slot.g[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

// out = Σ parts. One block.
extern "C" __global__ void total(float *out, const float *parts, int n) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += parts[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *out = sum;
}

struct Update {
    float clip, beta1, beta2, step_size, v_scale, eps, keep;
};

// As Update::on_chunk in adamw.rs. The grid's second dimension chooses the slot.
extern "C" __global__ void adamw(const Slot *slots, Update u) {
    Slot slot = slots[blockIdx.y];
    for (size_t i = ELEMENT; i < slot.n; i += (size_t)gridDim.x * blockDim.x) {
        float grad = slot.g[i] * u.clip;
        float first = u.beta1 * slot.m[i] + (1.0f - u.beta1) * grad;
        float second = u.beta2 * slot.v[i] + (1.0f - u.beta2) * grad * grad;
        slot.m[i] = first;
        slot.v[i] = second;
        if (slot.highest != nullptr) {
            second = fmaxf(second, slot.highest[i]);
            slot.highest[i] = second;
        }
        bool decays = slot.decayed != nullptr ? slot.decayed[i] != 0 : slot.all != 0;
        slot.p[i] = slot.p[i] * (decays ? u.keep : 1.0f) - u.step_size * first / (sqrtf(second) * u.v_scale + u.eps);
    }
}
