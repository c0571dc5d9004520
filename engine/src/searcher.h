// What looks for the best rows by inner product.
//
// One object is made when a version opens. It borrows what it reads, is never changed, and answers from any number of threads at
// once; what a search needs beside it belongs to the thread and is kept.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "arrays.h"

namespace twhin {

struct Hit {
  float score;  // the exact inner product
  std::int32_t row;
};

struct Ask {  // what is wanted for one query
  std::size_t k = 1;
  // Of `ivf4`: a list is looked into when a row that stands out of it by so many standard deviations would be among the best k.
  float depth = 4.0F;
  // Of `ivf4`: a row is scored exactly when, were its code wrong by so many standard deviations, it would be among the best k.
  float refine = 2.0F;
  const std::uint8_t* eligible = nullptr;   // bit i & 7 of byte i >> 3: row i may be answered; nullptr: all may
  std::span<const std::int32_t> excluded{};  // rows that may not; unknown and repeated ones do no harm
  bool ordered = true;                       // whether the answers' order is of use
};

struct Work {  // what searches have read: lists and their blocks, and rows that were scored exactly
  std::size_t lists = 0, blocks = 0, rows = 0;
};

class Searcher {
 public:
  static constexpr const char* kName = "twhin.Searcher";
  virtual ~Searcher() = default;

  virtual std::size_t size() const noexcept = 0;
  virtual std::size_t width() const noexcept = 0;

  // The best rows for queries of `width` finite floats, best first where their order is of use, equal scores by ascending row;
  // fewer than k only when no others are eligible. `hits[i]` has room for k; `found[i]`: how many. Equal to the answers one by one,
  // but the queries share the reading. What was read is counted for each query as if it were alone.
  virtual Work search(Matrix<const float> queries, std::span<const Ask> asks, std::span<Hit* const> hits,
                      std::span<std::size_t> found) const = 0;
};

}  // namespace twhin
