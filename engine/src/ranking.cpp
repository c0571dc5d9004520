// What is not among the best is left out before anything is sorted.
#include "ranking.h"

#include <algorithm>

#include "kernels.h"

namespace twhin {

void Ranking::keep_best(std::size_t n, bool ordered) {
  std::size_t count = size();
  n = std::min(n, count);
  if (n > 0 && n < count) {
    const Kernels& run = kernels();
    for (auto* room : {&scores_, &values_, &spare_}) room->resize(count + kGroup);  // kernels go on to the end of a vector
    rows_.resize(count + kGroup);
    std::copy_n(scores_.begin(), count, values_.begin());
    const float least = run.kth_largest(values_.data(), spare_.data(), count, n);
    count = run.keep(scores_.data(), reinterpret_cast<std::uint32_t*>(rows_.data()), count, least);
  }
  if (ordered || count > n) {
    ranks_.resize(count);
    for (std::size_t i = 0; i < count; ++i) ranks_[i] = rank_of(scores_[i], static_cast<std::uint32_t>(rows_[i]));
    std::sort(ranks_.begin(), ranks_.end());
    for (std::size_t i = 0; i < n; ++i) rows_[i] = static_cast<std::int32_t>(row_of(ranks_[i])), scores_[i] = score_of(ranks_[i]);
  }
  rows_.resize(n), scores_.resize(n);
}

}  // namespace twhin
