// Scored rows in order: the higher score first, of equal ones the lower row.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace twhin {

// A number for each, ascending as they are ranked: integers sort faster than pairs. No score is NaN; -0 is 0.
inline std::uint64_t rank_of(float score, std::uint32_t row) {
  std::uint32_t bits = std::bit_cast<std::uint32_t>(score + 0.0F);
  bits = bits & 0x80000000U ? ~bits : bits | 0x80000000U;  // ascending as the floats are
  return static_cast<std::uint64_t>(~bits) << 32 | row;
}
inline float score_of(std::uint64_t rank) {
  const std::uint32_t bits = ~static_cast<std::uint32_t>(rank >> 32);
  return std::bit_cast<float>(bits & 0x80000000U ? bits & 0x7FFFFFFFU : ~bits);
}
inline std::uint32_t row_of(std::uint64_t rank) { return static_cast<std::uint32_t>(rank); }

class Ranking {  // rows of which the best are wanted; its buffers outlast a request
 public:
  void clear() { rows_.clear(), scores_.clear(); }
  void add(std::int32_t row, float score) { rows_.push_back(row), scores_.push_back(score); }  // no NaN
  std::size_t size() const { return rows_.size(); }
  std::span<const std::int32_t> rows() const { return rows_; }
  std::span<const float> scores() const { return scores_; }

  // Keeps the best n, in order or as they were added.
  void keep_best(std::size_t n, bool ordered);

 private:
  std::vector<std::int32_t> rows_;
  std::vector<float> scores_, values_, spare_;
  std::vector<std::uint64_t> ranks_;
};

}  // namespace twhin
