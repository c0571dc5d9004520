// Rows are read by blocks that stay in the cache while several queries are scored against them.
#include "exact.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <vector>

#include "barred.h"
#include "ranking.h"

namespace twhin {
namespace {

constexpr std::size_t kTogether = 8;  // queries that share the reading of the rows
constexpr std::size_t kBlock = 256;   // rows, whole words of bits
constexpr std::size_t kKept = 16384;  // rows for which a thread keeps room after a search
constexpr std::size_t kSpare = 4096;  // rows that are kept beside four times k before the best are looked for

// Which of the rows 64 · word and on may be answered, of n in all.
std::uint64_t allowed(const Ask& ask, const Barred& barred, std::size_t word, std::size_t n) {
  const std::size_t left = n - 64 * word;
  std::uint64_t bits = left < 64 ? (std::uint64_t{1} << left) - 1 : ~std::uint64_t{0};
  if (ask.eligible != nullptr) {
    std::uint64_t eligible = 0;
    std::memcpy(&eligible, ask.eligible + 8 * word, std::min<std::size_t>(8, (left + 7) / 8));
    bits &= eligible;
  }
  return barred.any() ? bits & ~barred.word(word) : bits;
}

struct State {  // one query on its way
  Ranking best;
  Barred barred;
  float least;  // a score that no row reaches any more which comes later, since of equal ones the lower row wins

  void begin(const Ask& ask, std::size_t n) {
    best.clear();
    barred.set(ask.excluded, n);
    least = -std::numeric_limits<float>::infinity();
  }

  std::size_t add(const Rows& vectors, const float* query, const Ask& ask, std::size_t first, std::size_t last, float* room) {
    std::size_t scored = 0;
    std::uint32_t rows[Rows::kAtOnce];
    float scores[Rows::kAtOnce];
    for (std::size_t word = first / 64; word < (last + 63) / 64; ++word) {
      std::size_t n = 0;
      for (std::uint64_t bits = allowed(ask, barred, word, vectors.size()); bits != 0; bits &= bits - 1)
        rows[n++] = static_cast<std::uint32_t>(64 * word + static_cast<std::size_t>(std::countr_zero(bits)));
      vectors.dots({rows, n}, query, vectors.columns(), room, scores);
      for (std::size_t i = 0; i < n; ++i) {
        if (scores[i] > least) best.add(static_cast<std::int32_t>(rows[i]), scores[i]);  // nor NaN
      }
      scored += n;
    }
    if (best.size() < 4 * ask.k + kSpare) return scored;
    best.keep_best(ask.k, false);
    least = *std::min_element(best.scores().begin(), best.scores().end());
    return scored;
  }

  std::size_t finish(const Ask& ask, Hit* hits) {
    best.keep_best(ask.k, ask.ordered);
    const std::size_t found = best.size();
    for (std::size_t i = 0; i < found; ++i) hits[i] = {best.scores()[i], best.rows()[i]};
    if (found > kKept) best = {};
    return found;
  }
};

}  // namespace

Work Exact::search(Matrix<const float> queries, std::span<const Ask> asks, std::span<Hit* const> hits,
                   std::span<std::size_t> found) const {
  thread_local std::vector<State> all(kTogether);
  thread_local std::vector<float> room;
  room.resize(width());
  Work work;
  for (std::size_t first = 0; first < queries.rows; first += kTogether) {
    const std::span<State> states(all.data(), std::min(kTogether, queries.rows - first));
    const Forgetting<State> forgetting{states};
    for (std::size_t i = 0; i < states.size(); ++i) states[i].begin(asks[first + i], size());
    for (std::size_t row = 0; row < size(); row += kBlock) {
      const std::size_t last = std::min(row + kBlock, size());
      for (std::size_t i = 0; i < states.size(); ++i)
        work.rows += states[i].add(vectors_, queries.row(first + i).data(), asks[first + i], row, last, room.data());
    }
    for (std::size_t i = 0; i < states.size(); ++i) found[first + i] = states[i].finish(asks[first + i], hits[first + i]);
  }
  return work;
}

}  // namespace twhin
