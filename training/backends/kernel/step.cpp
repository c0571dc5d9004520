// The training step, compiled on first use: sample, gather, score, differentiate, update, for one chunk of edges
// after another. `training/model.py` defines what is computed and judges this file in the tests.
//
// A chunk has B edges and K candidates per direction, D floats a vector (D is a compile-time constant, a multiple of 32;
// shorter vectors are padded with zeros). The headers hold, from the bottom up: arithmetic.h, work.h, numbers.h,
// products.h, operands.h, losses.h, known.h, rows.h.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "arithmetic.h"
#include "known.h"
#include "losses.h"
#include "numbers.h"
#include "operands.h"
#include "products.h"
#include "rows.h"
#include "work.h"

namespace {

// A chunk's edges and negatives by row.
struct Batch {
  Batch(int64_t edges, int64_t candidates)
      : place(edges), src(edges), dst(edges), rel(edges), weight(edges), negative_t(candidates), negative_s(candidates), out(edges), into(edges) {}
  const Group* group = nullptr;
  int64_t position = -1, k = 0;
  int b = 0;
  std::vector<int32_t> place, src, dst, rel;
  std::vector<float> weight;
  std::vector<int32_t> negative_t, negative_s;
  Lists out, into;
};

Neighbours out_of(const Group& g) { return {g.out_offsets, g.dst, g.rel}; }
Neighbours into(const Group& g) { return {g.in_offsets, g.in_neighbour, g.in_relation}; }

// The numbers of this library: as asked for, by default (-1) the faster ones.
#if TWHIN_INT16 == 1 || (TWHIN_INT16 == -1 && TWHIN_VNNI)
using N = Int16;
#else
using N = Float32;
#endif

// ---- one thread's work -------------------------------------------------------------------------------------------

template <class Loss>
class Worker {
 public:
  explicit Worker(const Work& work)
      : w(work),
        B(work.chunk),
        K(std::min(work.negatives_in_batch, work.chunk) + work.negatives_uniform + work.negatives_prevalence),
        blocks_((K + BLOCK - 1) / BLOCK),
        chunk_floats_((2 * B + 2 * K) * D),
        S(B * D), T(B * D), dQ_(TILE * D), E_(std::max<int64_t>(K, 1) * TILE), weighted_(std::max<int64_t>(blocks_, 1) * TILE),
        gradient_(chunk_floats_ * work.chunks_per_update),
        candidates_(std::max<int64_t>(K, 1)),
        loss_(std::max<int64_t>(blocks_, 1)),
        hits_(blocks_),
        relations_(work.n_relations * 2, 2 * B * work.chunks_per_update),
        columns_(std::max<int64_t>(K, 1)),
        rows_((2 * B + 2 * K) * work.chunks_per_update + 1),
        now_(B, K + 1), next_(B, K + 1) {}

  bool ready() const {
    return S.data && T.data && dQ_.data && E_.data && weighted_.data && gradient_.data &&
           candidates_.ready() && queries_.ready() && slopes_.ready() && loss_.ready() && relations_.ready();
  }

  // Compute chunk `position`, fetching for chunk `following` (-1: none) meanwhile; false when its loss is not finite.
  // Gradients of the chunk's rows go to `slot` of the update, where they wait for the other chunks. Rows of the next chunk
  // are fetched between blocks of arithmetic (rows.h), because a table does not fit the cache and each row would otherwise
  // cost a miss.
  bool chunk(int64_t position, int64_t following, int slot) {
    if (next_.position != position) {
      collect(next_, position);
      find_lists(next_);
    }
    std::swap(now_, next_);
    ahead_.clear();
    if (following >= 0) {
      collect(next_, following);
      fetch_for(next_);
    }
    const Group& g = *now_.group;
    b = now_.b, k = now_.k, own_ = std::min(w.negatives_in_batch, b);
    float* dS = gradient_.data + (int64_t)slot * chunk_floats_;
    float *dT = dS + B * D, *dC0 = dT + B * D, *dC1 = dC0 + K * D;
    clear(dS, 2 * B * D);
    const Table &source = w.tables[g.source_table], &target = w.tables[g.target_table];
    const int32_t *src = now_.src.data(), *dst = now_.dst.data();
    const int32_t *negative_t = now_.negative_t.data(), *negative_s = now_.negative_s.data();
    gather(source, w.dim, src, b, S.data);
    gather(target, w.dim, dst, b, T.data);
    chunk_loss = 0;

    candidates_.gather(target, w.dim, negative_t, k);
    columns_.set(negative_t, k);
    direction(0, S.data, T.data, dS, dT, dC0, now_.out, g.dst, g.n_target);
    columns_.clear();
    if (following >= 0) find_lists(next_);

    candidates_.gather(source, w.dim, negative_s, k);
    columns_.set(negative_s, k);
    direction(1, T.data, S.data, dT, dS, dC1, now_.into, g.in_neighbour, g.n_source);
    columns_.clear();

    if (!std::isfinite(chunk_loss)) return false;
    rows_.put(g.source_table, src, b, dS);
    rows_.put(g.target_table, dst, b, dT);
    rows_.put(g.target_table, negative_t + own_, k - own_, dC0);
    rows_.put(g.source_table, negative_s + own_, k - own_, dC1);
    return true;
  }

  void update() {
    rows_.apply(w);
    relations_.apply(w);
  }

  void drop() {
    rows_.drop();
    relations_.drop();
  }

  double chunk_loss = 0;
  int b = 0;

 private:
  // Edges and negatives of a chunk, in the order in which `training/chunks.py` draws them.
  void collect(Batch& batch, int64_t position) {
    const Group& g = w.groups[w.chunk_group[position]];
    const int64_t start = w.chunk_start[position];
    const uint64_t seed = stream_seed(w.seed, (uint64_t)position);
    const int n = (int)std::min<int64_t>(B, g.edges - start), own = std::min(w.negatives_in_batch, n);
    const int64_t u = w.negatives_uniform, v = w.negatives_prevalence;
    for (int i = 0; i < n; i++) {
      const int32_t e = g.order[start + i];
      batch.place[i] = e;
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
    for (int i = 0; i < batch.b; i++) {
      const float* theta = w.relations + (int64_t)batch.rel[i] * 2 * w.dim;
      if (!g.one_relation) ahead_.add(theta, theta), ahead_.add(theta + w.dim, theta);
    }
    ahead_.add(source, w.dim, batch.src.data(), batch.b);
    ahead_.add(target, w.dim, batch.dst.data(), batch.b);
    const int own = std::min(w.negatives_in_batch, batch.b);
    ahead_.add(target, w.dim, batch.negative_t.data() + own, batch.k - own);
    ahead_.add(source, w.dim, batch.negative_s.data() + own, batch.k - own);
  }

  // Where the true pairs of the next chunk stand, and their beginnings; and then the places of the edges after it.
  void find_lists(Batch& batch) {
    if (!w.mask_all) return fetch_places(batch);
    const Group& g = *batch.group;
    batch.out.find(out_of(g), batch.src.data(), batch.rel.data(), batch.place.data(), batch.b, g.one_relation);
    batch.into.find(into(g), batch.dst.data(), batch.rel.data(), nullptr, batch.b, g.one_relation);
    batch.out.fetch(out_of(g), batch.b);
    batch.into.fetch(into(g), batch.b);
    fetch_places(batch);
  }

  void fetch_places(const Batch& batch) {
    const int64_t then = now_.position < 0 ? w.end : batch.position + (batch.position - now_.position);
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

  // One direction: queries from X, positives Y, candidates; adds to dX, dY and the relations' gradient, and writes dC: the
  // gradients of candidates past the chunk's own edges, whose gradients go to dY.
  void direction(int inverse, const float* X, const float* Y, float* dX, float* dY, float* dC, const Lists& known,
                 const int32_t* neighbour, int64_t rows) {
    const bool single = inverse && !w.inverse_relations;
    for (int i0 = 0; i0 < b; i0 += TILE) {
      const int n = std::min(TILE, b - i0);
      TileSums tile = {};
      for (int i = 0; i < n; i++) query(tile, i, i0 + i, inverse, single, X, Y);
      queries_.pack(n);
      for (int i = 0; i < n; i++) mask(i, i0 + i, inverse, known, neighbour, rows);
      slopes(tile, n);
      gradients(tile, n, i0 == 0, dY, dC);
      chunk_loss += tile.loss;
      for (int i = 0; i < n; i++) pull(tile, i, i0 + i, inverse, single, X, Y, dX, dY);
    }
  }

  // Candidates that are true neighbours of an edge's row under its relation score nothing.
  void mask(int i, int edge, int inverse, const Lists& known, const int32_t* neighbour, int64_t rows) {
    const auto hit = [&](int32_t j) { hits_[j / BLOCK].push_back(j % BLOCK * TILE + i); };
    if (w.mask_all) {
      const int32_t* list = neighbour + known.from(edge);
      const uint64_t* bits = bits_.of(list, known.count(edge), rows, k);
      return bits ? columns_.among(bits, hit) : columns_.each(list, known.count(edge), hit);
    }
    const int32_t *row = (inverse ? now_.dst : now_.src).data(), *end = (inverse ? now_.src : now_.dst).data();
    columns_.each(end + edge, 1, hit);
    for (int j = 0; j < own_; j++)
      if (row[j] == row[edge] && now_.rel[j] == now_.rel[edge]) hit(j);
  }

  const float* relation(int edge, int inverse, bool single) const {
    return w.relations + ((int64_t)now_.rel[edge] * 2 + (inverse && !single)) * w.dim;
  }

  // The moved end of an edge, or with a single relation vector the end itself and a bias.
  void query(TileSums& tile, int i, int edge, int inverse, bool single, const float* X, const float* Y) {
    float* __restrict q = queries_.vectors() + i * D;
    const float* __restrict x = X + edge * D;
    const float* __restrict theta = relation(edge, inverse, single);
    tile.weight[i] = now_.weight[edge];
    std::memcpy(q, x, D * 4);
    if (single) {
      for (int p = 0; p < w.dim; p++) tile.bias[i] += theta[p] * x[p];
    } else {
      for (int p = 0; p < w.dim; p++) q[p] += theta[p];
    }
    tile.positive[i] = dot(q, Y + edge * D);  // a softmax does not feel the bias
  }

  // Scores become E, block by block, while they are in the cache. Columns are whole pairs of registers.
  void slopes(TileSums& tile, int n) {
    const int width = (n + 2 * W - 1) / (2 * W) * (2 * W);
    const auto between = [this] { ahead_.step(w.dim); };
    loss_.begin(tile, width);
    for (int64_t j = 0, block = 0; j < k; j += BLOCK, block++) {
      const int count = (int)std::min<int64_t>(BLOCK, k - j);
      float* E = E_.data + j * TILE;
      score<N>(candidates_.rows(j), candidates_.unit(j), count, queries_.columns(), queries_.unit(), n, E, between);
      for (int32_t at : hits_[block]) E[at] = -1e30f;
      hits_[block].clear();
      loss_.block(E, block, count, tile, width, candidates_.unit(j), weighted_.data + block * TILE);
    }
    loss_.end(tile, width, n);
  }

  void gradients(const TileSums& tile, int n, bool first, float* dY, float* dC) {
    const int width = (n + 2 * W - 1) / (2 * W) * (2 * W), steps = (n + N::PER - 1) / N::PER;
    const auto between = [this] { ahead_.step(w.dim); };
    float factor[TILE];
    clear(dQ_.data, n * D);
    for (int64_t j = 0, block = 0; j < k; j += BLOCK, block++) {
      const int64_t count = std::min<int64_t>(BLOCK, k - j), mine = std::clamp<int64_t>(own_ - j, 0, count);
      loss_.factor(block, tile, width, factor);
      slopes_.pack(E_.data + j * TILE, (int)count, width, factor, weighted_.data + block * TILE, candidates_.unit(j), queries_.unit());
      query_gradient<N>(slopes_.for_queries(), candidates_.steps(j), (count + N::PER - 1) / N::PER, n, slopes_.query_unit(), dQ_.data, between);
      candidate_gradient<N, true>(slopes_.for_candidates(), mine, queries_.steps(), steps, slopes_.candidate_unit(), dY + j * D, between);
      const auto* others = slopes_.for_candidates() + mine * (TILE / N::PER);
      const float* unit = slopes_.candidate_unit() + (N::SCALED ? mine : 0);
      float* out = dC + (j + mine - own_) * D;
      if (first)
        candidate_gradient<N, false>(others, count - mine, queries_.steps(), steps, unit, out, between);
      else
        candidate_gradient<N, true>(others, count - mine, queries_.steps(), steps, unit, out, between);
    }
  }

  // What an edge's query and positive pull at.
  void pull(const TileSums& tile, int i, int edge, int inverse, bool single, const float* X, const float* Y, float* dX, float* dY) {
    float *dq = dQ_.data + i * D, *d_relation = relations_.of(w, now_.rel[edge] * 2 + (inverse && !single));
    add(dq, Y + edge * D, tile.slope[i]);
    add(dY + edge * D, queries_.vectors() + i * D, tile.slope[i]);
    if (single) {
      const float by_bias = tile.slope[i] + tile.total[i];
      const float* theta = relation(edge, inverse, single);
      for (int p = 0; p < w.dim; p++) dq[p] += by_bias * theta[p];
      add(d_relation, X + edge * D, by_bias);
    } else {
      add(d_relation, dq);
    }
    add(dX + edge * D, dq);
  }

  const Work& w;
  const int64_t B, K, blocks_, chunk_floats_;
  int64_t k = 0, own_ = 0;
  Buffer S, T, dQ_, E_, weighted_, gradient_;
  Candidates<N> candidates_;
  Queries<N> queries_;
  Slopes<N> slopes_;
  Loss loss_;
  std::vector<std::vector<int32_t>> hits_;  // by block: where E's true pairs are
  RelationGradients relations_;
  Columns columns_;
  Bits bits_;
  Gradients rows_;
  Batch now_, next_;
  Ahead ahead_;
};

template <class Loss>
int32_t run(const Work* work, int64_t* next, Result* result) {
  Worker<Loss> worker(*work);
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

}  // namespace

extern "C" {

// Train chunks taken from the shared counter `next` until Work.end; several threads may call it at once.
// Returns 0, or 1 when memory ran out.
int32_t twhin_run(const Work* work, int64_t* next, Result* result) {
  return work->logistic ? run<Logistic>(work, next, result) : run<Softmax>(work, next, result);
}
}
