// Exact search: every eligible row is scored.
#pragma once
#include "rows.h"
#include "searcher.h"

namespace twhin {

class Exact final : public Searcher {  // `depth` and `refine` of what is asked mean nothing
 public:
  explicit Exact(const Rows& vectors) : vectors_(vectors) {}

  std::size_t size() const noexcept override { return vectors_.size(); }
  std::size_t width() const noexcept override { return vectors_.columns(); }
  Work search(Matrix<const float> queries, std::span<const Ask> asks, std::span<Hit* const> hits,
              std::span<std::size_t> found) const override;

 private:
  Rows vectors_;
};

}  // namespace twhin
