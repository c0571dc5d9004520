// K-means over rows whose products with centroids are taken in bytes: a near tie may go either way, nothing else changes.
#include "ivf4/build.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ivf4/layout.h"
#include "ivf4/quantise.h"
#include "kernels.h"
#include "parallel.h"

namespace twhin::ivf4 {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();  // the bias of the lists that only fill the last sixteen

// The rows of each list, one list after the other; `first` has an end for each.
std::vector<std::uint32_t> by_list(std::span<const std::int32_t> lists, std::size_t n, std::vector<std::size_t>& first) {
  first.assign(n + 1, 0);
  for (const std::int32_t list : lists) ++first[static_cast<std::size_t>(list) + 1];
  std::partial_sum(first.begin(), first.end(), first.begin());
  std::vector<std::size_t> next(first.begin(), first.end() - 1);
  std::vector<std::uint32_t> rows(lists.size());
  for (std::size_t i = 0; i < lists.size(); ++i) {
    rows[next[static_cast<std::size_t>(lists[i])]++] = static_cast<std::uint32_t>(i);
  }
  return rows;
}

void mean_of(Matrix<const float> rows, std::span<const std::uint32_t> members, std::span<float> mean) {
  std::vector<double> sums(mean.size(), 0.0);
  for (const std::uint32_t i : members) {
    const float* row = rows.data + i * rows.columns;
    for (std::size_t j = 0; j < mean.size(); ++j) sums[j] += row[j];
  }
  for (std::size_t j = 0; j < mean.size(); ++j) mean[j] = static_cast<float>(sums[j] / static_cast<double>(members.size()));
}

// An empty list takes a row of the list that is the largest of all, the next one another row of it.
void fill_empty(Matrix<const float> rows, std::span<const std::uint32_t> members, const std::vector<std::size_t>& first,
                Matrix<float> centroids) {
  std::size_t largest = 0, taken = 0;
  const auto size = [&](std::size_t l) { return first[l + 1] - first[l]; };
  for (std::size_t l = 0; l < centroids.rows; ++l) largest = size(l) > size(largest) ? l : largest;
  for (std::size_t l = 0; l < centroids.rows; ++l) {
    if (size(l) > 0) continue;
    const std::uint32_t row = members[first[largest] + taken++ * 7919 % size(largest)];
    std::copy_n(rows.data + row * rows.columns, centroids.columns, centroids.row(l).data());
  }
}

}  // namespace

Centroids::Centroids(Matrix<const float> values)
    : lists_(values.rows), lowest_(values.columns), step_(values.columns), codes_(groups_of(lists_) * 16 * values.columns) {
  for (std::size_t j = 0; j < values.columns; ++j) {
    float low = values.data[j], high = low;
    for (std::size_t l = 0; l < lists_; ++l) {
      low = std::min(low, values.row(l)[j]);
      high = std::max(high, values.row(l)[j]);
    }
    lowest_[j] = low, step_[j] = (high - low) / 255;
    for (std::size_t l = 0; l < lists_; ++l) {
      const float code = step_[j] > 0 ? (values.row(l)[j] - low) / step_[j] : 0;
      codes_[place(l, j)] = static_cast<std::uint8_t>(std::clamp<long>(std::lrint(code), 0, 255));
    }
  }
  make_bias();
}

Centroids::Centroids(std::span<const std::uint8_t> codes, std::span<const float> lowest, std::span<const float> step,
                     std::size_t lists)
    : lists_(lists), lowest_(lowest.begin(), lowest.end()), step_(step.begin(), step.end()), codes_(codes.begin(), codes.end()) {
  make_bias();
}

// |row − c|² is least where row · c − |c|²/2 is largest; row · lowest is the same for all.
void Centroids::make_bias() {
  bias_.assign(groups_of(lists_) * 16, kNever);
  for (std::size_t l = 0; l < lists_; ++l) {
    double square = 0;
    for (std::size_t j = 0; j < lowest_.size(); ++j) square += static_cast<double>(value(l, j)) * value(l, j);
    bias_[l] = static_cast<float>(-square / 2);
  }
}

void Centroids::nearest(Matrix<const float> rows, std::span<std::int32_t> lists, std::size_t threads) const {
  const Kernels& run = kernels();
  const std::size_t held = lowest_.size();
  const Nearest among{codes_.data(), groups_of(lists_), held / 4, bias_.data()};
  parallel(rows.rows, threads, kNearestRows, [&](std::size_t first, std::size_t last) {
    std::vector<std::int32_t> words(kNearestRows * held / 4), best(kNearestRows);
    std::vector<float> delta(kNearestRows), products(held);
    for (std::size_t i = first; i < last; i += kNearestRows) {
      const std::size_t n = std::min(kNearestRows, last - i), filled = (n + 3) / 4 * 4;  // the rest is what there was before
      for (std::size_t r = 0; r < n; ++r) {
        auto* const bytes = reinterpret_cast<std::int8_t*>(words.data() + r * held / 4);
        delta[r] = quantise(rows.row(i + r).data(), step_.data(), held, products.data(), bytes);
      }
      run.nearest(among, words.data(), delta.data(), filled, best.data());
      std::copy_n(best.begin(), n, lists.begin() + static_cast<std::ptrdiff_t>(i));
    }
  });
}

void kmeans(Matrix<const float> rows, Matrix<float> centroids, std::size_t iterations, std::size_t threads) {
  std::vector<std::int32_t> lists(rows.rows);
  std::vector<std::size_t> first;
  for (std::size_t left = iterations; left-- > 0;) {
    // Of a matrix with longer rows only the beginning of each is read: every fourth row, say.
    const std::size_t every = std::min(std::size_t{1} << std::min<std::size_t>(left, 2), rows.rows / centroids.rows);
    const Matrix<const float> some{rows.data, rows.rows / every, rows.columns * every};
    const std::span<std::int32_t> list_of(lists.data(), some.rows);
    Centroids(Matrix<const float>{centroids.data, centroids.rows, centroids.columns}).nearest(some, list_of, threads);
    const std::vector<std::uint32_t> members = by_list(list_of, centroids.rows, first);
    parallel(centroids.rows, threads, 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t l = begin; l < end; ++l) {
        const std::span<const std::uint32_t> mine(members.data() + first[l], first[l + 1] - first[l]);
        if (!mine.empty()) mean_of(some, mine, centroids.row(l));
      }
    });
    fill_empty(some, members, first, centroids);
  }
}

}  // namespace twhin::ivf4
