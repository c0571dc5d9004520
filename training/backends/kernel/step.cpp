// The training step, compiled on first use: sample, gather, score, differentiate, update, for one chunk of edges
// after another. `training/model.py` defines what is computed and judges this file in the tests.
//
// A chunk has B edges and K candidates per direction, D floats a vector (D is a compile-time constant, a multiple of 32;
// shorter vectors are padded with zeros). The headers hold, from the bottom up: arithmetic.h, work.h, products.h, rows.h.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "arithmetic.h"
#include "products.h"
#include "rows.h"
#include "work.h"

namespace {

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
        K(std::min(work.negatives_in_batch, work.chunk) + work.negatives_uniform + work.negatives_prevalence),
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

  // The two directions share one candidate buffer C and one score buffer E; gradients of the chunk's rows go to `slot`
  // of the update, where they wait for the other chunks. Rows of the next chunk are fetched between blocks of arithmetic
  // (rows.h), because a table does not fit the cache and each row would otherwise cost a miss.
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
        theta[p] -= w.relation_learning_rate * g[p] / (std::sqrt(state[p]) + 1e-10f);
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

  // Edges and negatives of a chunk, in the order in which `training/chunks.py` draws them.
  void collect(Batch& batch, int64_t position) {
    const Group& g = w.groups[w.chunk_group[position]];
    const int64_t start = w.chunk_start[position];
    const uint64_t seed = stream_seed(w.seed, (uint64_t)position);
    const int n = (int)std::min<int64_t>(B, g.edges - start), own = std::min(w.negatives_in_batch, n);
    const int64_t u = w.negatives_uniform, v = w.negatives_prevalence;
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
    const int own = std::min(w.negatives_in_batch, batch.b);
    ahead_.add(target, batch.negative_t.data() + own, batch.k - own);
    ahead_.add(source, batch.negative_s.data() + own, batch.k - own);
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
    const bool single = inverse && !w.inverse_relations;
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
      // From scores to gradients in place: E holds scores, then slopes but for a factor of each edge (its weight, over
      // the softmax's sum). The factor is applied to the n x D queries, in dQ and Qs, rather than to the k x 64 numbers
      // of E, which would cost another pass over the largest array of the chunk.
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

  // Exponentials are of differences from the largest score, so none overflows; a masked score of -1e30 becomes 0. Edges
  // are the lanes of a register and candidates the loop, so no sum across lanes is needed.
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
