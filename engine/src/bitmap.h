// One bit for each row, all clear between calls: whoever sets bits clears the same ones.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace twhin {

class Bitmap {
 public:
  void reserve(std::size_t rows) {
    if (words_.size() < rows / 64 + 1) words_.resize(rows / 64 + 1);
    rows_ = rows;
  }
  bool holds(std::int64_t row) const { return row >= 0 && static_cast<std::size_t>(row) < rows_; }
  bool test(std::size_t row) const { return words_[row >> 6] >> (row & 63) & 1; }
  void set(std::size_t row) { words_[row >> 6] |= std::uint64_t{1} << (row & 63); }
  void clear(std::size_t row) { words_[row >> 6] &= ~(std::uint64_t{1} << (row & 63)); }
  bool test_and_set(std::size_t row) {
    const bool before = test(row);
    set(row);
    return before;
  }

 private:
  std::vector<std::uint64_t> words_;
  std::size_t rows_ = 0;
};

}  // namespace twhin
