// The loss of a network that rescores, and its gradient, as evaluation/learning has them: each held-out candidate of a pool against
// the others of it. One pass over the inputs, pool by pool: a pool's hundred candidates and their units stay in the cache.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <stdexcept>
#include <vector>

#include "arrays.h"
#include "binding.h"
#include "level.h"
#if TWHIN_X86
#include <immintrin.h>
#elif TWHIN_ARM
#include <arm_neon.h>
#endif

namespace twhin {
namespace {

struct Layer {  // `weights` has a row of units for each input; `units` is a multiple of the lanes
  std::size_t features = 0, units = 0;
  const float *weights = nullptr, *bias = nullptr, *out = nullptr;
};

struct Pool {  // `active`, `back`: a row of units for each candidate; `gradient`: a row for each input, and two
  std::size_t rows = 0;
  const float* inputs = nullptr;
  float *active = nullptr, *back = nullptr, *scores = nullptr, *slopes = nullptr, *gradient = nullptr;
};

struct Kernel {
  std::size_t lanes;
  void (*forward)(const Layer&, const Pool&);
  void (*backward)(const Layer&, const Pool&);
};

#define TWHIN_KERNEL "learning_kernel.h"
#include "each_level.h"

// What is learnt, in one line: for each unit a weight of each input; a bias of each unit; each unit's way out.
class Parameters {
 public:
  Parameters(std::span<const double> packed, std::size_t features, std::size_t hidden, std::size_t lanes)
      : features_(features), hidden_(hidden), units_((hidden + lanes - 1) / lanes * lanes), floats_((features + 2) * units_) {
    for (std::size_t h = 0; h < hidden; ++h) {
      for (std::size_t f = 0; f < features; ++f) floats_[f * units_ + h] = static_cast<float>(packed[h * features + f]);
      for (std::size_t k = 0; k < 2; ++k)
        floats_[(features + k) * units_ + h] = static_cast<float>(packed[(features + k) * hidden + h]);
    }
  }

  Layer layer() const {
    const float* const last = floats_.data() + features_ * units_;
    return {features_, units_, floats_.data(), last, last + units_};
  }

  // The sums, laid out as the floats are, back into one line.
  void pack(std::span<const double> sums, double factor, std::span<double> packed) const {
    for (std::size_t h = 0; h < hidden_; ++h) {
      for (std::size_t f = 0; f < features_; ++f) packed[h * features_ + f] = factor * sums[f * units_ + h];
      for (std::size_t k = 0; k < 2; ++k) packed[(features_ + k) * hidden_ + h] = factor * sums[(features_ + k) * units_ + h];
    }
  }

 private:
  std::size_t features_, hidden_, units_;
  std::vector<float> floats_;
};

// −log softmax of each positive of a pool among itself and the pool's negatives, weighted; slopes by the scores. `masses` is
// for its own use.
double rank(const Pool& pool, const std::uint8_t* positive, const double* importance, std::vector<double>& masses) {
  double peak = -std::numeric_limits<double>::infinity(), total = 0, pulled = 0, loss = 0;
  for (std::size_t i = 0; i < pool.rows; ++i)
    if (!positive[i]) peak = std::max(peak, static_cast<double>(pool.scores[i]));
  masses.resize(pool.rows);
  for (std::size_t i = 0; i < pool.rows; ++i) {
    masses[i] = positive[i] ? 0.0 : std::exp(static_cast<double>(pool.scores[i]) - peak);
    total += masses[i];
  }
  const double all = peak + std::log(total);
  for (std::size_t i = 0; i < pool.rows; ++i) {
    if (!positive[i]) continue;
    const double margin = all - static_cast<double>(pool.scores[i]);
    const double slope = *importance / (1.0 + std::exp(-margin));
    loss += *importance++ * (std::max(margin, 0.0) + std::log1p(std::exp(-std::abs(margin))));
    pulled += slope;
    pool.slopes[i] = static_cast<float>(-slope);
  }
  for (std::size_t i = 0; i < pool.rows; ++i)
    if (!positive[i]) pool.slopes[i] = static_cast<float>(masses[i] * (pulled / total));
  return loss;
}

// Every pool has a positive and a negative.
void check(Matrix<const float> inputs, std::span<const std::int64_t> starts, std::span<const std::uint8_t> positive,
           std::span<const double> importance) {
  constexpr const char* kOtherwise = "the pools do not fit their inputs";
  require(starts.size() >= 2 && starts.front() == 0 && static_cast<std::size_t>(starts.back()) == inputs.rows, kOtherwise);
  require(positive.size() == inputs.rows, kOtherwise);
  std::size_t positives = 0;
  for (std::size_t u = 0; u + 1 < starts.size(); ++u) {
    require(starts[u + 1] > starts[u] && static_cast<std::size_t>(starts[u + 1]) <= inputs.rows, kOtherwise);
    std::size_t inside = 0;
    for (std::int64_t i = starts[u]; i < starts[u + 1]; ++i) inside += positive[static_cast<std::size_t>(i)] != 0;
    require(inside > 0 && inside < static_cast<std::size_t>(starts[u + 1] - starts[u]), kOtherwise);
    positives += inside;
  }
  require(positives == importance.size(), kOtherwise);
}

double ranking_loss(Matrix<const float> inputs, std::span<const std::int64_t> starts, std::span<const std::uint8_t> positive,
                    std::span<const double> importance, std::span<const double> packed, std::span<double> gradient) {
  check(inputs, starts, positive, importance);
  const std::size_t features = inputs.columns, hidden = packed.size() / (features + 2);
  require(features && packed.size() == hidden * (features + 2) && gradient.size() == packed.size(),
          "the network does not fit its inputs");
  const Kernel& with = kernel();
  const Parameters parameters(packed, features, hidden, with.lanes);
  const Layer layer = parameters.layer();
  std::size_t longest = 0;
  for (std::size_t u = 0; u + 1 < starts.size(); ++u)
    longest = std::max(longest, static_cast<std::size_t>(starts[u + 1] - starts[u]));
  std::vector<float> active(longest * layer.units), back(longest * layer.units), scores(longest), slopes(longest);
  std::vector<float> of_pool((features + 2) * layer.units);
  std::vector<double> sums(of_pool.size()), masses;
  double loss = 0, total_importance = 0;
  const double* at = importance.data();
  for (std::size_t u = 0; u + 1 < starts.size(); ++u) {
    const auto first = static_cast<std::size_t>(starts[u]);
    const Pool pool{static_cast<std::size_t>(starts[u + 1]) - first, inputs.row(first).data(), active.data(), back.data(),
                    scores.data(), slopes.data(), of_pool.data()};
    with.forward(layer, pool);
    loss += rank(pool, positive.data() + first, at, masses);
    for (std::size_t i = 0; i < pool.rows; ++i) at += positive[first + i] != 0;
    with.backward(layer, pool);
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += static_cast<double>(of_pool[i]);
  }
  for (const double one : importance) total_importance += one;
  parameters.pack(sums, 1.0 / total_importance, gradient);
  return loss / total_importance;
}

}  // namespace

TWHIN_EXPORT(ranking_loss, ranking_loss, "The loss of a network over pools of candidates, and its gradient.");

}  // namespace twhin
