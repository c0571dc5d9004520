// Rows that a query excludes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace twhin {

class Barred {  // as bits that a thread keeps and clears again
 public:
  void set(std::span<const std::int32_t> rows, std::size_t n) {
    if (bits_.size() * 8 < n) bits_.resize((n + 63) / 64 * 8);
    rows_ = rows, n_ = n;
    for (const std::int32_t row : rows) {
      if (known(row)) bits_[static_cast<std::size_t>(row) >> 3] |= static_cast<std::uint8_t>(1 << (row & 7));
    }
  }
  void clear() {
    for (const std::int32_t row : rows_) {
      if (known(row)) bits_[static_cast<std::size_t>(row) >> 3] = 0;
    }
    rows_ = {};
  }
  bool any() const { return !rows_.empty(); }
  bool operator()(std::uint32_t row) const { return bits_[row >> 3] >> (row & 7) & 1; }
  // Those of the rows 64 · word to 64 · word + 63.
  std::uint64_t word(std::size_t word) const {
    std::uint64_t bits;
    std::memcpy(&bits, bits_.data() + 8 * word, sizeof bits);
    return bits;
  }

 private:
  bool known(std::int32_t row) const { return row >= 0 && static_cast<std::size_t>(row) < n_; }
  std::vector<std::uint8_t> bits_;
  std::span<const std::int32_t> rows_;
  std::size_t n_ = 0;
};

template <class Query>
struct Forgetting {  // what each of some queries has `barred` is forgotten however their search ends
  std::span<Query> queries;
  ~Forgetting() {
    for (Query& query : queries) query.barred.clear();
  }
};

}  // namespace twhin
