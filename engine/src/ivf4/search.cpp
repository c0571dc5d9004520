// A search: the query mapped, lists ranked by what their best row might score, codes scanned round by round, the likeliest
// rows scored exactly. Scores before the last step are of a query brought to the size of one, and in the index's columns.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "barred.h"
#include "ivf4.h"
#include "ivf4/layout.h"
#include "ivf4/quantise.h"
#include "kernels.h"
#include "ranking.h"

namespace twhin {
namespace {

using ivf4::largest_of, ivf4::quantise;

constexpr float kLowest = -std::numeric_limits<float>::infinity();
constexpr std::size_t kScanned = 16;     // blocks scanned at once: for their rows there must be room
constexpr std::size_t kFirstRows = 6;    // times k: about so many rows are scanned before lists are judged by the k-th
constexpr std::size_t kWider = 4;        // a round looks into so many times the lists of the one before
constexpr std::size_t kTogether = 8;     // queries that share the reading of the lists
constexpr std::size_t kAhead = 8;        // rows fetched ahead of the one that is scored
constexpr std::size_t kBeginning = 12;   // lines of the next list fetched ahead: the processor goes on from there by itself

struct Quantised {  // a query's coordinates as int8, four to a word: coordinate ≈ delta · value
  std::vector<std::int32_t> words;
  float delta = 0;
  std::int32_t sum = 0;
};

// query[j] · scale[j] for n columns, a multiple of 16.
void quantised(const float* query, const float* scale, std::size_t n, float* products, Quantised& made) {
  made.words.resize(n / 4);
  auto* const bytes = reinterpret_cast<std::int8_t*>(made.words.data());
  made.delta = quantise(query, scale, n, products, bytes);
  made.sum = std::accumulate(bytes, bytes + n, 0);
}

struct Pool {  // the rows found so far, by the scores of their codes
  std::vector<float> scores, values, spare;
  std::vector<std::uint32_t> rows;
  std::size_t count = 0, k = 0, room = 0;
  float margin = 0, kth = kLowest, threshold = kLowest;

  void start(std::size_t wanted, float slack) {
    k = wanted, margin = slack, count = 0;
    room = 4 * k + 2048;
    kth = threshold = kLowest;
    const std::size_t size = room + 2 * kGroup * kScanned;
    for (auto* room_for : {&scores, &values, &spare})
      if (room_for->size() < size) room_for->resize(size);
    if (rows.size() < size) rows.resize(size);
  }

  float ranked(const Kernels& run, std::size_t place) {
    std::memcpy(values.data(), scores.data(), count * sizeof(float));
    return run.kth_largest(values.data(), spare.data(), count, place);
  }

  // Finds the k-th best and drops what cannot come before it; of too many that can, the half that is best.
  void settle(const Kernels& run) {
    if (count < k || count == 0) return;
    kth = std::max(kth, ranked(run, k));
    threshold = std::max(threshold, kth - margin);
    count = run.keep(scores.data(), rows.data(), count, threshold);
    if (count <= room / 2) return;
    threshold = std::max(threshold, ranked(run, room / 2));
    count = std::min(run.keep(scores.data(), rows.data(), count, threshold), room / 2);
  }
};

struct State {  // one query on its way
  const float* query = nullptr;
  const Ask* ask = nullptr;
  std::vector<float> scaled, mapped, bounds, values, spare;
  std::vector<std::int32_t> sums;
  std::vector<std::uint32_t> lists;
  Quantised coarse, fine;
  float reach = 0, bias = 0;
  std::size_t quota = 0, n_lists = 0, at = 0;  // the next round's lists, and which of them comes next
  Pool pool;
  Barred barred;
};

// Times a power of two that brings the largest coordinate near one: ranks stay, and no later sum overflows.
void scale(const float* values, std::size_t n, float* out) {
  const float largest = largest_of(values, n);
  const float size = largest > 0 ? std::ldexp(1.0F, -std::clamp(std::ilogb(largest), -120, 120)) : 1.0F;
  for (std::size_t i = 0; i < n; ++i) out[i] = values[i] * size;
}

std::size_t filtered(const State& state, float* scores, std::uint32_t* rows, std::size_t n) {
  const std::uint8_t* eligible = state.ask->eligible;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t row = rows[i];
    if (eligible != nullptr && !(eligible[row >> 3] >> (row & 7) & 1)) continue;
    if (state.barred.any() && state.barred(row)) continue;
    scores[kept] = scores[i], rows[kept++] = row;
  }
  return kept;
}

// The best k of exactly scored rows. They are sorted where they are to be in order, or equal ones are one too
// many.
std::size_t best_of(const Kernels& run, Pool& pool, std::vector<std::uint64_t>& keys, const Ask& ask, Hit* hits) {
  std::size_t count = pool.count;
  const std::size_t k = ask.k;
  if (k < count) count = run.keep(pool.scores.data(), pool.rows.data(), count, pool.ranked(run, k));
  if (!ask.ordered && count <= k) {
    for (std::size_t i = 0; i < count; ++i) hits[i] = {pool.scores[i], static_cast<std::int32_t>(pool.rows[i])};
    return count;
  }
  keys.resize(count);
  for (std::size_t i = 0; i < count; ++i) keys[i] = rank_of(pool.scores[i], pool.rows[i]);
  std::sort(keys.begin(), keys.end());
  const std::size_t found = std::min(k, count);
  for (std::size_t i = 0; i < found; ++i) hits[i] = {score_of(keys[i]), static_cast<std::int32_t>(row_of(keys[i]))};
  return found;
}

}  // namespace

struct Ivf4::Scratch {
  std::vector<State> states;
  std::vector<std::uint64_t> keys;
  std::vector<float> row;
  Work work;

  static Scratch& mine() {
    thread_local Scratch scratch;
    return scratch;
  }

  static void begin(const Ivf4& index, const float* query, const Ask& ask, State& state);
  static bool choose_lists(const Ivf4& index, State& state);
  void scan_list(const Ivf4& index, State& state, std::uint32_t list, std::uint32_t next);
  void round(const Ivf4& index, std::span<State> states);
  std::size_t finish(const Ivf4& index, State& state, Hit* hits);
};

// Maps the query and bounds the score of every list's best row.
void Ivf4::Scratch::begin(const Ivf4& index, const float* query, const Ask& ask, State& state) {
  const File& file = index.file_;
  const std::size_t groups = ivf4::groups_of(file.lists);
  const Kernels& run = kernels();
  state.query = query, state.ask = &ask;
  state.mapped.resize(file.held);
  state.scaled.resize(std::max(index.width(), file.held));
  scale(query, index.width(), state.scaled.data());  // before the map, which might overflow, and after it
  run.map(state.scaled.data(), index.query_map_, state.mapped.data());
  scale(state.mapped.data(), file.held, state.mapped.data());
  float start = 0, spread = 0, error = 0;
  for (std::size_t j = 0; j < file.held; ++j) {
    const float p = state.mapped[j];
    start += p * file.lowest[j];
    spread += p * p * file.variance[j];
    error += p * p * file.scale[j] * file.scale[j] / 12;  // of rounding to whole steps
  }
  quantised(state.mapped.data(), file.step, file.held, state.scaled.data(), state.coarse);
  quantised(state.mapped.data(), file.scale, file.held, state.scaled.data(), state.fine);
  state.bias = -7.5F * state.fine.delta * static_cast<float>(state.fine.sum);  // code 7.5 is the centroid itself
  state.reach = ask.depth * std::sqrt(spread);
  state.sums.resize(groups * kGroup);
  run.coarse(file.centroids, groups, file.held / 4, state.coarse.words.data(), state.sums.data());
  for (auto* room : {&state.bounds, &state.values, &state.spare}) room->resize(groups * kGroup + kGroup);
  state.lists.resize(groups * kGroup + kGroup);
  for (std::size_t l = 0; l < groups * kGroup; ++l) {
    const float base = static_cast<float>(state.sums[l]) * state.coarse.delta + start;
    state.bounds[l] = base + state.reach * file.spread[l];
  }
  const std::size_t rows_a_list = std::max<std::size_t>(1, file.rows / file.lists);
  state.quota = std::max<std::size_t>(4, kFirstRows * ask.k / rows_a_list);
  state.pool.start(ask.k, ask.refine * std::sqrt(error));
  state.barred.set(ask.excluded, file.rows);
}

// The lists of the next round, ascending: of those whose best row may be among the k best, the likeliest few.
bool Ivf4::Scratch::choose_lists(const Ivf4& index, State& state) {
  const Kernels& run = kernels();
  const std::size_t n = index.file_.lists;
  const float least = std::max(state.pool.kth, std::numeric_limits<float>::lowest());
  std::size_t count = run.places(state.bounds.data(), n, least, state.lists.data());
  if (count > state.quota) {
    for (std::size_t i = 0; i < count; ++i) state.values[i] = state.bounds[state.lists[i]];
    const float threshold = run.kth_largest(state.values.data(), state.spare.data(), count, state.quota);
    count = run.places(state.bounds.data(), n, threshold, state.lists.data());
  }
  state.n_lists = count;
  state.quota *= kWider;
  state.at = 0;
  return count > 0;
}

void Ivf4::Scratch::scan_list(const Ivf4& index, State& state, std::uint32_t list, std::uint32_t next) {
  const File& file = index.file_;
  const Kernels& run = kernels();
  const std::size_t bytes = ivf4::Layout::block_bytes(file.held);
  Pool& pool = state.pool;
  Scan scan{};
  scan.groups = file.held / 8;
  scan.query = state.fine.words.data();
  scan.base = state.bounds[list] - state.reach * file.spread[list] + state.bias;
  scan.delta = state.fine.delta;
  scan.n_rows = static_cast<std::uint32_t>(file.rows);
  state.bounds[list] = kLowest;  // no round looks into it again
  ++work.lists, work.blocks += file.first_block[list + 1] - file.first_block[list];
  const std::uint8_t* const ahead = file.codes + file.first_block[next] * bytes;
  for (std::size_t i = 0; i < kBeginning; ++i) __builtin_prefetch(ahead + 64 * i);
  const bool filters = state.ask->eligible != nullptr || state.barred.any();
  for (std::size_t block = file.first_block[list]; block < file.first_block[list + 1]; block += kScanned) {
    scan.blocks = file.codes + block * bytes;
    scan.n_blocks = std::min<std::size_t>(kScanned, file.first_block[list + 1] - block);
    scan.threshold = pool.threshold;
    float* scores = pool.scores.data() + pool.count;
    std::uint32_t* rows = pool.rows.data() + pool.count;
    std::size_t found = run.scan(scan, scores, rows);
    if (filters) found = filtered(state, scores, rows, found);
    pool.count += found;
    if (pool.count > pool.room) pool.settle(run);
  }
}

// Every query's lists of this round, list by list, so that one that several look into is read once.
void Ivf4::Scratch::round(const Ivf4& index, std::span<State> states) {
  for (;;) {
    constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();
    std::uint32_t list = kNone;
    for (const State& state : states) {
      if (state.at < state.n_lists) list = std::min(list, state.lists[state.at]);
    }
    if (list == kNone) return;
    for (State& state : states) {
      if (state.at >= state.n_lists || state.lists[state.at] != list) continue;
      const std::uint32_t next = state.lists[std::min(++state.at, state.n_lists - 1)];
      scan_list(index, state, list, next);
    }
  }
}

// Scores exactly what is left in the pool.
std::size_t Ivf4::Scratch::finish(const Ivf4& index, State& state, Hit* hits) {
  const Kernels& run = kernels();
  Pool& pool = state.pool;
  const Rows& vectors = index.vectors_;
  work.rows += pool.count;
  row.resize(index.width());
  for (std::size_t i = 0; i < std::min(kAhead, pool.count); ++i) vectors.fetch(pool.rows[i]);
  for (std::size_t i = 0; i < pool.count; ++i) {
    if (i + kAhead < pool.count) vectors.fetch(pool.rows[i + kAhead]);
    pool.scores[i] = vectors.dot(pool.rows[i], state.query, row.size(), row.data());
  }
  return best_of(run, pool, keys, *state.ask, hits);
}

Work Ivf4::search(Matrix<const float> queries, std::span<const Ask> asks, std::span<Hit* const> hits,
                  std::span<std::size_t> found) const {
  Scratch& scratch = Scratch::mine();
  scratch.work = {};
  if (scratch.states.size() < kTogether) scratch.states.resize(kTogether);
  for (std::size_t first = 0; first < queries.rows; first += kTogether) {
    const std::size_t n = std::min(kTogether, queries.rows - first);
    const std::span<State> states(scratch.states.data(), n);
    const Forgetting<State> forgetting{states};
    for (std::size_t i = 0; i < n; ++i) Scratch::begin(*this, queries.row(first + i).data(), asks[first + i], states[i]);
    for (bool more = true; more;) {
      more = false;
      for (State& state : states) more |= Scratch::choose_lists(*this, state);
      scratch.round(*this, states);
      for (State& state : states) state.pool.settle(kernels());
    }
    for (std::size_t i = 0; i < n; ++i) found[first + i] = scratch.finish(*this, states[i], hits[first + i]);
  }
  return scratch.work;
}

}  // namespace twhin
