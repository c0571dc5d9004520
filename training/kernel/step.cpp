// The training step, compiled on first use: sample, gather, score, differentiate, update, for one chunk of edges
// after another. `training/torch_step.py` says the same in torch and judges this file in the tests.
//
// Layout of the work, for a chunk of B edges and K candidates per direction, D floats a vector (D is a compile-time
// constant, a multiple of 32; shorter vectors are padded with zeros):
//   scores  E[j][i] = C_j . Q_i + bias_i       candidates by rows, edges by columns, so that a softmax runs down columns
//   queries dQ_i    = sum_j E[j][i] C_j
//   cand.   dC_j    = sum_i E[j][i] Q_i
// All three products are blocks of MR rows by two vector registers held in accumulators; edges go in tiles of 64.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#ifndef TWHIN_DIM
#error "compile with -DTWHIN_DIM=<padded dimension>"
#endif

namespace {

constexpr int D = TWHIN_DIM;
constexpr int TILE = 64;
#if defined(__AVX512F__)
constexpr int W = 16, MR = 14;
#elif defined(__AVX__)
constexpr int W = 8, MR = 6;
#elif defined(__aarch64__)
constexpr int W = 4, MR = 14;
#else
constexpr int W = 4, MR = 6;
#endif
static_assert(D % (2 * W) == 0, "the padded dimension must be a multiple of two registers");

typedef float vf __attribute__((vector_size(W * 4)));
typedef int32_t vi __attribute__((vector_size(W * 4)));
typedef float vfu __attribute__((vector_size(W * 4), aligned(4), may_alias));

inline vf load(const float* p) { return *reinterpret_cast<const vfu*>(p); }
inline void store(float* p, vf v) { *reinterpret_cast<vfu*>(p) = v; }
inline vf splat(float x) { return x - vf{}; }
inline vf choose(vi where, vf a, vf b) { return (vf)(((vi)a & where) | ((vi)b & ~where)); }

inline float sum(vf v) {
  float total = 0;
  for (int k = 0; k < W; k++) total += v[k];
  return total;
}

// e^x by 2^n times a polynomial; below -87 it is 0. Relative error about 2e-7.
inline vf exp_(vf x) {
  vf clamped = choose(x < splat(-87.0f), splat(-87.0f), choose(x > splat(88.0f), splat(88.0f), x));
  vf shifted = clamped * 1.44269504f + 12582912.0f;  // rounds to an integer in the low bits
  vf n = shifted - 12582912.0f;
  vf r = clamped - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  vf p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  vi bits = ((vi)shifted << 23) + (vi)p;
  return choose(x < splat(-87.0f), vf{}, (vf)bits);
}

// log(1 + z) for z in [0, 1], by the series of 2 atanh(z / (2 + z)).
inline vf log1p_(vf z) {
  vf t = z / (z + 2.0f), q = t * t;
  vf p = q * (2.0f / 13) + 2.0f / 11;
  p = p * q + 2.0f / 9;
  p = p * q + 2.0f / 7;
  p = p * q + 2.0f / 5;
  p = p * q + 2.0f / 3;
  return (p * q + 2.0f) * t;
}

inline uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}
constexpr uint64_t GOLDEN = 0x9E3779B97F4A7C15ull;

inline uint64_t stream_seed(uint64_t seed, uint64_t position) {
  uint64_t state = mix(GOLDEN * (seed + 1));
  return mix(state + GOLDEN * (position + 1));
}
inline int32_t draw(uint64_t seed, uint64_t counter, uint64_t bound) {
  uint64_t bits = mix(seed + (counter + 1) * GOLDEN);
  return (int32_t)(((bits >> 32) * bound) >> 32);
}

}  // namespace

extern "C" {

struct Table {
  float* vectors;
  float* accumulator;
  const float* previous;  // null: no pull
};

struct Group {
  const int32_t *src, *dst, *rel;
  const float* weight;  // null: all 1
  int64_t edges;
  const int64_t* out_offsets;  // neighbours and relations by source are `dst` and `rel` themselves
  const int64_t* in_offsets;
  const int32_t *in_neighbour, *in_relation;
  const int32_t* order;
  int64_t n_source, n_target;
  int32_t source_table, target_table;  // positions in Work.tables; equal when the arrays are the same
  int32_t one_relation;                // all edges have the same one: a row's neighbours need no search
};

struct Work {
  const Group* groups;
  const Table* tables;
  float *relations, *relation_accumulator;  // [R][2][dim]
  const float* relation_weight;
  const int32_t* chunk_group;
  const int64_t* chunk_start;
  int64_t end;
  uint64_t seed;
  int64_t n_relations;
  int32_t dim, chunk, own, uniform, prevalence, chunks_per_update, logistic, inverse;
  float rate, relation_rate, pull, decay;
};

struct Result {
  double loss;
  int64_t edges;
  int64_t diverged_at;  // -1: none
};
}

namespace {

float* aligned(size_t floats) {
  void* p = std::aligned_alloc(64, (floats * 4 + 63) / 64 * 64);
  if (p) std::memset(p, 0, (floats * 4 + 63) / 64 * 64);
  return static_cast<float*>(p);
}

struct Buffer {
  float* data;
  explicit Buffer(size_t floats) : data(aligned(floats)) {}
  ~Buffer() { std::free(data); }
  Buffer(const Buffer&) = delete;
};

// Rows that the next chunk will read: fetched a few at a time between blocks of arithmetic, so that memory works meanwhile.
class Ahead {
 public:
  void clear() { rows_.clear(), at_ = 0; }
  void add(const Table& table, const int32_t* ids, int64_t count) {
    for (int64_t k = 0; k < count; k++) rows_.push_back({&table, ids[k]});
  }
  inline void step(int dim) {
    constexpr size_t ROWS = 3;
    for (const size_t end = std::min(at_ + ROWS, rows_.size()); at_ < end; at_++) {
      const Row& row = rows_[at_];
      const char* vector = reinterpret_cast<const char*>(row.table->vectors + (int64_t)row.id * dim);
      for (int byte = 0; byte < dim * 4; byte += 64) __builtin_prefetch(vector + byte, 1, 2);
      __builtin_prefetch(row.table->accumulator + row.id, 1, 2);
    }
  }

 private:
  struct Row {
    const Table* table;
    int32_t id;
  };
  std::vector<Row> rows_;
  size_t at_ = 0;
};

// ---- the three products ------------------------------------------------------------------------------------------

// E[m][0:2W] = sum_p A[m][p] Bt[p][0:2W]: M candidates against 2W edges.
template <int M>
inline void score_block(const float* A, const float* Bt, float* E) {
  vf acc[M][2] = {};
  for (int p = 0; p < D; p++) {
    vf b0 = load(Bt + p * TILE), b1 = load(Bt + p * TILE + W);
    for (int m = 0; m < M; m++) {
      vf a = splat(A[m * D + p]);
      acc[m][0] += a * b0;
      acc[m][1] += a * b1;
    }
  }
  for (int m = 0; m < M; m++) {
    store(E + m * TILE, acc[m][0]);
    store(E + m * TILE + W, acc[m][1]);
  }
}

// out[m][0:2W] = sum_j E[j][m] C[j][0:2W]: M edges against 2W coordinates, over all candidates.
template <int M>
inline void query_block(const float* E, const float* C, int64_t k, float* out) {
  vf acc[M][2] = {};
  for (int64_t j = 0; j < k; j++) {
    vf b0 = load(C + j * D), b1 = load(C + j * D + W);
    for (int m = 0; m < M; m++) {
      vf a = splat(E[j * TILE + m]);
      acc[m][0] += a * b0;
      acc[m][1] += a * b1;
    }
  }
  for (int m = 0; m < M; m++) {
    store(out + m * D, acc[m][0]);
    store(out + m * D + W, acc[m][1]);
  }
}

// out[m][0:2W] = sum_i E[m][i] Q[i][0:2W]: M candidates against 2W coordinates, over the tile's edges; MORE adds it instead.
template <int M, bool MORE>
inline void candidate_block(const float* E, const float* Q, int b, float* out) {
  vf acc[M][2] = {};
  if constexpr (MORE)
    for (int m = 0; m < M; m++) {
      acc[m][0] = load(out + m * D);
      acc[m][1] = load(out + m * D + W);
    }
  for (int i = 0; i < b; i++) {
    vf b0 = load(Q + i * D), b1 = load(Q + i * D + W);
    for (int m = 0; m < M; m++) {
      vf a = splat(E[m * TILE + i]);
      acc[m][0] += a * b0;
      acc[m][1] += a * b1;
    }
  }
  for (int m = 0; m < M; m++) {
    store(out + m * D, acc[m][0]);
    store(out + m * D + W, acc[m][1]);
  }
}

enum Product { SCORE, QUERY, CANDIDATE, MORE_CANDIDATE };

template <Product P, int M>
inline void block(const float* A, const float* B, int64_t count, float* out) {
  if constexpr (P == SCORE) score_block<M>(A, B, out);
  if constexpr (P == QUERY) query_block<M>(A, B, count, out);
  if constexpr (P == CANDIDATE) candidate_block<M, false>(A, B, (int)count, out);
  if constexpr (P == MORE_CANDIDATE) candidate_block<M, true>(A, B, (int)count, out);
}

// The block for `m` rows, m <= MR, chosen at run time.
template <Product P, int M = MR>
inline void rows(int m, const float* A, const float* B, int64_t count, float* out) {
  if (m == M) return block<P, M>(A, B, count, out);
  if constexpr (M > 1) rows<P, M - 1>(m, A, B, count, out);
}

template <class Between>
void score(const float* C, int64_t k, const float* Qt, float* E, Between between) {
  for (int i = 0; i < TILE; i += 2 * W)
    for (int64_t j = 0; j < k; j += MR) {
      rows<SCORE>((int)std::min<int64_t>(MR, k - j), C + j * D, Qt + i, 0, E + j * TILE + i);
      between();
    }
}

template <class Between>
void query_gradient(const float* E, const float* C, int64_t k, int b, float* out, Between between) {
  const int blocks = (b + MR - 1) / MR, size = (b + blocks - 1) / blocks;
  for (int c = 0; c < D; c += 2 * W)
    for (int i = 0; i < b; i += size) {
      rows<QUERY>(std::min(size, b - i), E + i, C + c, k, out + i * D + c);
      between();
    }
}

template <Product P, class Between>
void candidate_gradient(const float* E, const float* Q, int64_t k, int b, float* out, Between between) {
  for (int64_t j = 0; j < k; j += MR)
    for (int c = 0; c < D; c += 2 * W) {
      rows<P>((int)std::min<int64_t>(MR, k - j), E + j * TILE, Q + c, b, out + j * D + c);
      between();
    }
}

void transpose(const float* Q, int b, float* Qt) {  // Qt[p][i] = Q[i][p]; columns past b are zero
  for (int i = 0; i < b; i++)
    for (int p = 0; p < D; p++) Qt[p * TILE + i] = Q[i * D + p];
  for (int p = 0; p < D; p++)
    for (int i = b; i < TILE; i++) Qt[p * TILE + i] = 0;
}

// ---- rows --------------------------------------------------------------------------------------------------------

inline float dot(const float* a, const float* b) {
  vf total = {};
  for (int p = 0; p < D; p += W) total += load(a + p) * load(b + p);
  return sum(total);
}
inline void add(float* to, const float* from, float factor = 1) {
  for (int p = 0; p < D; p += W) store(to + p, load(to + p) + load(from + p) * factor);
}

void gather(const float* table, int dim, const int32_t* ids, int64_t count, float* out) {
  for (int64_t k = 0; k < count; k++) std::memcpy(out + k * D, table + (int64_t)ids[k] * dim, dim * 4);
}

// Columns of a candidate list by row: a filter of bits, then a chained hash table, so that scanning a long neighbour list
// is cheap. Rows are dense numbers, so their low bits serve as the hash.
class Columns {
 public:
  explicit Columns(int64_t most) : next_(most), filter_(1 << (FILTER - 5), 0) {
    while ((1 << bits_) < 2 * most) bits_++;
    head_.assign(1 << bits_, -1);
  }
  void set(const int32_t* ids, int64_t count) {
    ids_ = ids;
    count_ = count;
    for (int64_t j = count - 1; j >= 0; j--) {
      filter_[word(ids[j])] |= 1u << (ids[j] & 31);
      next_[j] = head_[place(ids[j])];
      head_[place(ids[j])] = (int32_t)j;
    }
  }
  void clear() {
    for (int64_t j = 0; j < count_; j++) filter_[word(ids_[j])] = 0, head_[place(ids_[j])] = -1;
  }
  // Visit every column of every id in the list.
  template <class F>
  void each(const int32_t* list, int64_t count, F visit) const {
    int64_t e = 0;
#if defined(__AVX512F__)
    const __m512i words = _mm512_set1_epi32((1 << (FILTER - 5)) - 1), low = _mm512_set1_epi32(31), unit = _mm512_set1_epi32(1);
    for (; e + 16 <= count; e += 16) {  // sixteen look-ups at once
      const __m512i id = _mm512_loadu_si512(list + e);
      const __m512i found = _mm512_i32gather_epi32(_mm512_and_si512(_mm512_srli_epi32(id, 5), words), filter_.data(), 4);
      __mmask16 hits = _mm512_test_epi32_mask(_mm512_srlv_epi32(found, _mm512_and_si512(id, low)), unit);
      for (; hits; hits &= hits - 1) one(list[e + __builtin_ctz(hits)], visit);
    }
#endif
    for (; e < count; e++) one(list[e], visit);
  }

 private:
  static constexpr int FILTER = 17;
  static uint32_t word(int32_t id) { return ((uint32_t)id >> 5) & ((1u << (FILTER - 5)) - 1); }
  uint32_t place(int32_t id) const { return (uint32_t)id & ((1u << bits_) - 1); }
  template <class F>
  void one(int32_t id, F visit) const {
    if (!(filter_[word(id)] >> (id & 31) & 1)) return;
    for (int32_t j = head_[place(id)]; j >= 0; j = next_[j])
      if (ids_[j] == id) visit(j);
  }
  int bits_ = 6;
  const int32_t* ids_ = nullptr;
  int64_t count_ = 0;
  std::vector<int32_t> head_, next_;
  std::vector<uint32_t> filter_;
};

// The gradient rows of one update, added up by (table, row).
class Gradients {
 public:
  explicit Gradients(int64_t most) {
    while ((1ll << bits_) < 2 * most) bits_++;
    place_.assign(1ll << bits_, -1);
    entries_.reserve(most);
  }
  void put(int32_t table, const int32_t* ids, int64_t count, float* gradient) {
    for (int64_t k = 0; k < count; k++) put(table, ids[k], gradient + k * D);
  }
  void apply(const Work& work) {
    constexpr size_t AHEAD = 6;
    for (size_t k = 0; k < entries_.size(); k++) {
      if (k + AHEAD < entries_.size()) fetch(work, entries_[k + AHEAD]);
      update(work, entries_[k]);
      place_[entries_[k].place] = -1;
    }
    entries_.clear();
  }
  void drop() {
    for (Entry& e : entries_) place_[e.place] = -1;
    entries_.clear();
  }

 private:
  struct Entry {
    uint64_t key;
    float* gradient;
    int64_t place;
  };
  void put(int32_t table, int32_t id, float* gradient) {
    uint64_t key = ((uint64_t)(uint32_t)table << 32) | (uint32_t)id;
    uint64_t mask = (1ull << bits_) - 1, at = (key * GOLDEN) >> (64 - bits_);
    while (place_[at] >= 0) {
      Entry& e = entries_[place_[at]];
      if (e.key == key) return add(e.gradient, gradient);
      at = (at + 1) & mask;
    }
    place_[at] = (int32_t)entries_.size();
    entries_.push_back({key, gradient, (int64_t)at});
  }
  static void fetch(const Work& work, const Entry& e) {
    const Table& table = work.tables[e.key >> 32];
    const char* row = reinterpret_cast<const char*>(table.vectors + (int64_t)(e.key & 0xffffffffu) * work.dim);
    for (int byte = 0; byte < work.dim * 4; byte += 64) __builtin_prefetch(row + byte, 1, 3);
  }
  static void update(const Work& work, const Entry& e) {
    const Table& table = work.tables[e.key >> 32];
    const int64_t row = (int64_t)(e.key & 0xffffffffu), dim = work.dim;
    float* theta = table.vectors + row * dim;
    float* g = e.gradient;
    if (table.previous) {
      const float* old = table.previous + row * dim;
      for (int p = 0; p < dim; p++) g[p] += 2 * work.pull * (theta[p] - old[p]);
    }
    if (work.decay != 0)
      for (int p = 0; p < dim; p++) g[p] += 2 * work.decay * theta[p];
    const float state = table.accumulator[row] += dot(g, g) / dim;
    const float step = work.rate / (std::sqrt(state) + 1e-10f);
    int p = 0;
    for (; p + W <= dim; p += W) store(theta + p, load(theta + p) - load(g + p) * step);
    for (; p < dim; p++) theta[p] -= g[p] * step;
  }
  int bits_ = 6;
  std::vector<int32_t> place_;
  std::vector<Entry> entries_;
};

// A chunk's edges and negatives by row.
struct Batch {
  Batch(int64_t edges, int64_t candidates)
      : src(edges), dst(edges), rel(edges), weight(edges), negative_t(candidates), negative_s(candidates) {}
  const Group* group = nullptr;
  int64_t position = -1, k = 0;
  int b = 0;
  std::vector<int32_t> src, dst, rel;
  std::vector<float> weight;
  std::vector<int32_t> negative_t, negative_s;
};

// ---- one thread's work -------------------------------------------------------------------------------------------

class Worker {
 public:
  explicit Worker(const Work& work)
      : w(work),
        B(work.chunk),
        K(std::min(work.own, work.chunk) + work.uniform + work.prevalence),
        chunk_floats_((2 * B + 2 * K) * D),
        S(B * D), T(B * D), C(K * D), Q(TILE * D), Qs(TILE * D), Qt(TILE * D), dQ(TILE * D), E(std::max<int64_t>(K, 1) * TILE),
        gradient_(chunk_floats_ * work.chunks_per_update),
        relation_gradient_(work.n_relations * 2 * D),
        relation_touched_(work.n_relations * 2, 0),
        columns_(std::max<int64_t>(K, 1)),
        rows_((2 * B + 2 * K) * work.chunks_per_update + 1),
        now_(B, K + 1), next_(B, K + 1) {}

  bool ready() const {
    return S.data && T.data && C.data && Q.data && Qs.data && Qt.data && dQ.data && E.data && gradient_.data && relation_gradient_.data;
  }

  // Compute chunk `position`, fetching for chunk `following` (-1: none) meanwhile; false when its loss is not finite.
  bool chunk(int64_t position, int64_t following, int slot) {
    if (next_.position != position) collect(next_, position);
    std::swap(now_, next_);
    ahead_.clear();
    if (following >= 0) {
      collect(next_, following);
      fetch_for(next_);
    }
    const Group& g = *now_.group;
    b = now_.b, k = now_.k;
    float* dS = gradient_.data + (int64_t)slot * chunk_floats_;
    float *dT = dS + B * D, *dC0 = dT + B * D, *dC1 = dC0 + K * D;
    std::memset(dS, 0, 2 * B * D * 4);
    const Table &source = w.tables[g.source_table], &target = w.tables[g.target_table];
    const int32_t *src = now_.src.data(), *dst = now_.dst.data();
    const int32_t *negative_t = now_.negative_t.data(), *negative_s = now_.negative_s.data();
    gather(source.vectors, w.dim, src, b, S.data);
    gather(target.vectors, w.dim, dst, b, T.data);
    chunk_loss = 0;

    gather(target.vectors, w.dim, negative_t, k, C.data);
    columns_.set(negative_t, k);
    direction(0, S.data, T.data, dS, dT, dC0, {g.out_offsets, g.dst, g.rel}, src);
    columns_.clear();
    fetch_lists(next_);

    gather(source.vectors, w.dim, negative_s, k, C.data);
    columns_.set(negative_s, k);
    direction(1, T.data, S.data, dT, dS, dC1, {g.in_offsets, g.in_neighbour, g.in_relation}, dst);
    columns_.clear();

    if (!std::isfinite(chunk_loss)) return false;
    rows_.put(g.source_table, src, b, dS);
    rows_.put(g.target_table, dst, b, dT);
    rows_.put(g.target_table, negative_t, k, dC0);
    rows_.put(g.source_table, negative_s, k, dC1);
    return true;
  }

  void update() {
    rows_.apply(w);
    for (int32_t r : relations_) {
      float *g = relation_gradient_.data + (int64_t)r * D, *theta = w.relations + (int64_t)r * w.dim;
      float* state = w.relation_accumulator + (int64_t)r * w.dim;
      for (int p = 0; p < w.dim; p++) {
        state[p] += g[p] * g[p];
        theta[p] -= w.relation_rate * g[p] / (std::sqrt(state[p]) + 1e-10f);
      }
    }
    forget_relations();
  }

  void drop() {
    rows_.drop();
    forget_relations();
  }

  double chunk_loss = 0;
  int b = 0;

 private:
  void forget_relations() {
    for (int32_t r : relations_) {
      std::memset(relation_gradient_.data + (int64_t)r * D, 0, D * 4);
      relation_touched_[r] = 0;
    }
    relations_.clear();
  }

  // Edges and negatives of a chunk, in the order in which `training/batch.py` draws them.
  void collect(Batch& batch, int64_t position) {
    const Group& g = w.groups[w.chunk_group[position]];
    const int64_t start = w.chunk_start[position];
    const uint64_t seed = stream_seed(w.seed, (uint64_t)position);
    const int n = (int)std::min<int64_t>(B, g.edges - start), own = std::min(w.own, n);
    const int64_t u = w.uniform, v = w.prevalence;
    for (int i = 0; i < n; i++) {
      const int32_t e = g.order[start + i];
      batch.src[i] = g.src[e];
      batch.dst[i] = g.dst[e];
      batch.rel[i] = g.rel[e];
      batch.weight[i] = w.relation_weight[batch.rel[i]] * (g.weight ? g.weight[e] : 1.0f);
    }
    int32_t *t = batch.negative_t.data(), *s = batch.negative_s.data();
    std::copy(batch.dst.begin(), batch.dst.begin() + own, t);
    std::copy(batch.src.begin(), batch.src.begin() + own, s);
    for (int64_t j = 0; j < u; j++) t[own + j] = draw(seed, j, g.n_target);
    for (int64_t j = 0; j < u; j++) s[own + j] = draw(seed, u + j, g.n_source);
    for (int64_t j = 0; j < v; j++) t[own + u + j] = g.dst[draw(seed, 2 * u + j, g.edges)];
    for (int64_t j = 0; j < v; j++) s[own + u + j] = g.src[draw(seed, 2 * u + v + j, g.edges)];
    batch.group = &g, batch.position = position, batch.b = n, batch.k = own + u + v;
  }

  void fetch_for(const Batch& batch) {
    const Group& g = *batch.group;
    const Table &source = w.tables[g.source_table], &target = w.tables[g.target_table];
    for (int i = 0; i < batch.b; i++) {
      __builtin_prefetch(g.out_offsets + batch.src[i], 0, 2);
      __builtin_prefetch(g.in_offsets + batch.dst[i], 0, 2);
    }
    ahead_.add(source, batch.src.data(), batch.b);
    ahead_.add(target, batch.dst.data(), batch.b);
    ahead_.add(target, batch.negative_t.data() + std::min(w.own, batch.b), batch.k - std::min(w.own, batch.b));
    ahead_.add(source, batch.negative_s.data() + std::min(w.own, batch.b), batch.k - std::min(w.own, batch.b));
  }

  // The beginnings of the next chunk's neighbour lists, and the places of the edges of the chunk after it.
  void fetch_lists(const Batch& batch) {
    if (batch.position < 0) return;
    const Group& g = *batch.group;
    for (int i = 0; i < batch.b; i++) {
      const int64_t out = g.out_offsets[batch.src[i]], in = g.in_offsets[batch.dst[i]];
      for (int64_t line = 0; line < 64; line += 16) {
        __builtin_prefetch(g.dst + out + line, 0, 2);
        __builtin_prefetch(g.in_neighbour + in + line, 0, 2);
      }
      if (!g.one_relation) {
        __builtin_prefetch(g.rel + out, 0, 2);
        __builtin_prefetch(g.in_relation + in, 0, 2);
      }
    }
    const int64_t then = batch.position + (batch.position - now_.position);
    if (then >= w.end) return;
    const Group& h = w.groups[w.chunk_group[then]];
    const int64_t start = w.chunk_start[then], n = std::min<int64_t>(B, h.edges - start);
    for (int64_t i = 0; i < n; i++) {
      const int32_t e = h.order[start + i];
      __builtin_prefetch(h.src + e, 0, 2);
      __builtin_prefetch(h.dst + e, 0, 2);
      if (!h.one_relation) __builtin_prefetch(h.rel + e, 0, 2);
    }
  }

  // True neighbours by row: those of row v are neighbour[offsets[v]:offsets[v + 1]], by relation.
  struct Known {
    const int64_t* offsets;
    const int32_t *neighbour, *relation;
  };

  // One direction: queries from X, positives Y, candidates C; adds to dX, dY, dC and the relations' gradient.
  void direction(int inverse, const float* X, const float* Y, float* dX, float* dY, float* dC, const Known& known,
                 const int32_t* row) {
    const int32_t* rel_ = now_.rel.data();
    const auto between = [this] { ahead_.step(w.dim); };
    const bool single = inverse && !w.inverse;
    for (int i0 = 0; i0 < b; i0 += TILE) {
      const int n = std::min(TILE, b - i0);
      float bias[TILE] = {}, positive[TILE] = {};
      for (int i = 0; i < n; i++) {
        float* q = Q.data + i * D;
        const float* x = X + (i0 + i) * D;
        const float* theta = w.relations + ((int64_t)rel_[i0 + i] * 2 + (inverse && !single)) * w.dim;
        std::memcpy(q, x, D * 4);
        if (single)
          for (int p = 0; p < w.dim; p++) bias[i] += theta[p] * x[p];
        else
          for (int p = 0; p < w.dim; p++) q[p] += theta[p];
        positive[i] = dot(q, Y + (i0 + i) * D) + (w.logistic ? bias[i] : 0);  // a softmax does not feel the bias
      }
      transpose(Q.data, n, Qt.data);
      score(C.data, k, Qt.data, E.data, between);
      for (int i = 0; i < n; i++) mask(i, row[i0 + i], rel_[i0 + i], known);
      float slope[TILE] = {}, scale[TILE] = {}, total[TILE] = {};
      for (int i = 0; i < n; i++) scale[i] = now_.weight[i0 + i];
      w.logistic ? logistic(n, positive, bias, scale, slope, total) : softmax(n, positive, scale, slope, total);
      query_gradient(E.data, C.data, k, n, dQ.data, between);
      for (int i = 0; i < n; i++)
        for (int p = 0; p < D; p += W) {
          store(Qs.data + i * D + p, load(Q.data + i * D + p) * scale[i]);
          store(dQ.data + i * D + p, load(dQ.data + i * D + p) * scale[i]);
        }
      if (i0 == 0)
        candidate_gradient<CANDIDATE>(E.data, Qs.data, k, n, dC, between);
      else
        candidate_gradient<MORE_CANDIDATE>(E.data, Qs.data, k, n, dC, between);
      for (int i = 0; i < n; i++) {
        const float* y = Y + (i0 + i) * D;
        add(dQ.data + i * D, y, slope[i]);
        add(dY + (i0 + i) * D, Q.data + i * D, slope[i]);
        const int32_t r = rel_[i0 + i] * 2 + (inverse && !single);
        if (!relation_touched_[r]) {
          relation_touched_[r] = 1;
          relations_.push_back(r);
        }
        float* d_relation = relation_gradient_.data + (int64_t)r * D;
        if (single) {
          const float by_bias = slope[i] + total[i];
          float* d_x = dQ.data + i * D;
          const float *theta = w.relations + (int64_t)r * w.dim, *x = X + (i0 + i) * D;
          for (int p = 0; p < w.dim; p++) d_x[p] += by_bias * theta[p];
          add(d_relation, x, by_bias);
        } else {
          add(d_relation, dQ.data + i * D);
        }
        add(dX + (i0 + i) * D, dQ.data + i * D);
      }
    }
  }

  // Candidates that are true neighbours of edge i's row under its relation score nothing.
  void mask(int i, int32_t row, int32_t relation, const Known& known) {
    int64_t from = known.offsets[row], to = known.offsets[row + 1];
    if (!now_.group->one_relation) {
      const int32_t *first = known.relation + from, *last = known.relation + to;
      from = std::lower_bound(first, last, relation) - known.relation;
      to = std::upper_bound(known.relation + from, last, relation) - known.relation;
    }
    columns_.each(known.neighbour + from, to - from, [&](int32_t j) { E.data[(int64_t)j * TILE + i] = -1e30f; });
  }

  // E becomes exp(score - top); scale becomes weight / sum; slope the derivative by the positive's score.
  void softmax(int n, const float* positive, float* scale, float* slope, float* total) {
    for (int i = 0; i < TILE; i += W) {
      vf own = load(positive + i), top = own;
      for (int64_t j = 0; j < k; j++) {
        vf e = load(E.data + j * TILE + i);
        top = choose(e > top, e, top);
      }
      vf at_positive = exp_(own - top), others = {};
      for (int64_t j = 0; j < k; j++) {
        vf e = exp_(load(E.data + j * TILE + i) - top);
        store(E.data + j * TILE + i, e);
        others += e;
      }
      vf weight = load(scale + i), factor = weight / (others + at_positive);
      store(scale + i, factor);
      store(total + i, others * factor);
      store(slope + i, -(others * factor));
      for (int c = 0; c < W && i + c < n; c++)
        chunk_loss += (double)weight[c] * (std::log((double)others[c] + at_positive[c]) + top[c] - own[c]);
    }
  }

  // E becomes sigma(score + bias); eq. 2, half of the positive's term in each direction.
  void logistic(int n, const float* positive, const float* bias, const float* scale, float* slope, float* total) {
    for (int i = 0; i < TILE; i += W) {
      vf shift = load(bias + i), others = {}, loss = {};
      for (int64_t j = 0; j < k; j++) {
        vf x = load(E.data + j * TILE + i) + shift, z = exp_(choose(x > vf{}, -x, x));
        vf s = choose(x > vf{}, splat(1.0f), z) / (z + 1.0f);
        store(E.data + j * TILE + i, s);
        others += s;
        loss += choose(x > vf{}, x, vf{}) + log1p_(z);
      }
      vf x = load(positive + i), z = exp_(choose(x > vf{}, -x, x)), weight = load(scale + i);
      vf miss = choose(x > vf{}, z, splat(1.0f)) / (z + 1.0f);
      store(slope + i, miss * weight * -0.5f);
      store(total + i, others * weight);
      loss += (choose(x > vf{}, vf{}, -x) + log1p_(z)) * 0.5f;
      for (int c = 0; c < W && i + c < n; c++) chunk_loss += (double)weight[c] * loss[c];
    }
  }

  const Work& w;
  const int64_t B, K;
  int64_t k = 0;
  const int64_t chunk_floats_;
  Buffer S, T, C, Q, Qs, Qt, dQ, E, gradient_, relation_gradient_;
  std::vector<uint8_t> relation_touched_;
  std::vector<int32_t> relations_;
  Columns columns_;
  Gradients rows_;
  Batch now_, next_;
  Ahead ahead_;
};

}  // namespace

extern "C" {

// Train chunks taken from the shared counter `next` until Work.end; several threads may call it at once.
// Returns 0, or 1 when memory ran out.
int32_t twhin_run(const Work* work, int64_t* next, Result* result) {
  Worker worker(*work);
  if (!worker.ready()) return 1;
  auto* counter = reinterpret_cast<std::atomic<int64_t>*>(next);
  const int64_t step = work->chunks_per_update;
  *result = {0, 0, -1};
  int64_t begin = counter->fetch_add(step);
  while (begin < work->end) {
    const int64_t end = std::min(begin + step, work->end), then = counter->fetch_add(step);
    for (int64_t position = begin; position < end; position++) {
      const int64_t following = position + 1 < end ? position + 1 : then < work->end ? then : -1;
      if (!worker.chunk(position, following, (int)(position - begin))) {
        worker.drop();
        counter->store(work->end);
        result->diverged_at = position;
        return 0;
      }
      result->loss += worker.chunk_loss;
      result->edges += worker.b;
    }
    worker.update();
    begin = then;
  }
  return 0;
}
}
