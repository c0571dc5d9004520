// One bit for each row, all clear between calls: whoever sets bits clears the same ones, also where memory runs out in between.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace twhin {

class Bitmap {
 public:
  void reserve(std::size_t rows) {
    if (words_.size() < rows / 64 + 1) words_.resize(rows / 64 + 1);
    rows_ = rows;
  }
  bool holds(std::int64_t row) const { return row >= 0 && static_cast<std::size_t>(row) < rows_; }
  std::size_t rows() const { return rows_; }
  const std::uint64_t* words() const { return words_.data(); }
  bool test(std::size_t row) const { return words_[row >> 6] >> (row & 63) & 1; }
  void set(std::size_t row) { words_[row >> 6] |= std::uint64_t{1} << (row & 63); }
  void clear(std::size_t row) { words_[row >> 6] &= ~(std::uint64_t{1} << (row & 63)); }
  // Copies those of `rows` whose bit is set, in order; `out` has room for all and kSlack more. Returns how many they are.
  std::size_t marked(std::span<const std::int32_t> rows, std::int32_t* out) const;
  static constexpr std::size_t kSlack = 16;

 private:
  std::vector<std::uint64_t> words_;
  std::size_t rows_ = 0;
};

// Bits that are set for as long as this lives: of each of `items` that of the row which it is, or has.
template <class T, class RowOf = std::identity>
class Marked {
 public:
  Marked(Bitmap& bits, std::span<const T> items, RowOf row_of = {}) : bits_(bits), items_(items), row_of_(row_of) {
    for (const T& item : items_) bits_.set(static_cast<std::size_t>(std::invoke(row_of_, item)));
  }
  ~Marked() {
    for (const T& item : items_) bits_.clear(static_cast<std::size_t>(std::invoke(row_of_, item)));
  }
  Marked(const Marked&) = delete;
  Marked& operator=(const Marked&) = delete;

 private:
  Bitmap& bits_;
  std::span<const T> items_;
  RowOf row_of_;
};

// Rows that an answer must not have: those that were added, and all that a filter's bitmap does not keep.
class Unwanted {
 public:
  // `eligible` is empty, or has ⌈rows / 8⌉ bytes: bit i & 7 of byte i >> 3 says whether row i may be answered.
  void begin(std::size_t rows, std::span<const std::uint8_t> eligible) {
    added_.reserve(rows);
    eligible_ = eligible;
  }
  bool holds(std::int64_t row) const { return added_.holds(row); }
  bool eligible(std::size_t row) const { return eligible_.empty() || (eligible_[row >> 3] >> (row & 7) & 1); }
  bool has(std::size_t row) const { return added_.test(row) || !eligible(row); }
  // Adds a row; whether it was there.
  bool add(std::size_t row) {
    if (added_.test(row)) return true;
    rows_.push_back(row);  // first: what is not written down is not forgotten
    added_.set(row);
    return false;
  }
  // Adds a row unless it is unwanted; whether it was wanted.
  bool take(std::size_t row) { return eligible(row) && !add(row); }
  void remove(std::size_t row) { added_.clear(row); }
  // Removes all that were added: after every request.
  void forget() {
    for (const std::size_t row : rows_) added_.clear(row);
    rows_.clear();
  }

 private:
  Bitmap added_;
  std::vector<std::size_t> rows_;  // that were added, whether they have been removed or not
  std::span<const std::uint8_t> eligible_;
};

}  // namespace twhin
