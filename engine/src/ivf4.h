// `ivf4`, a searcher by inner product: inverted lists of 4-bit codes, read from a mapped file. docs/indexes.md has the
// picture, docs/bundle-format.md the file.
//
// One object is made when a version opens. It borrows the file, the map of queries and the vectors, is never changed, and
// answers from any number of threads at once; what a search needs beside it belongs to the thread and is kept.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "arrays.h"
#include "rows.h"

namespace twhin {

struct Hit {
  float score;  // the exact inner product
  std::int32_t row;
};

struct Ask {  // what is wanted for one query
  std::size_t k = 1;
  // A list is looked into when a row that stands out of it by so many standard deviations would be among the best k.
  float depth = 4.0F;
  // A row is scored exactly when, were its code wrong by so many standard deviations, it would be among the best k.
  float refine = 2.0F;
  const std::uint8_t* eligible = nullptr;   // bit i & 7 of byte i >> 3: row i may be answered; nullptr: all may
  std::span<const std::int32_t> excluded{};  // rows that may not; unknown and repeated ones do no harm
  bool ordered = true;                       // whether the answers' order is of use
};

struct Work {  // what searches have read: lists and their blocks, and rows that were scored exactly
  std::size_t lists = 0, blocks = 0, rows = 0;
};

class Ivf4 {
 public:
  static constexpr const char* kName = "engine.ivf4";

  // `file` is aligned to 64 bytes; `query_map` is width × held; `vectors` are those that are scored, n × width.
  // Throws std::invalid_argument for a file that is none, is cut, or does not fit the others.
  Ivf4(std::span<const std::uint8_t> file, Matrix<const float> query_map, const Rows& vectors);

  std::size_t size() const noexcept { return vectors_.size(); }
  std::size_t width() const noexcept { return vectors_.columns(); }

  // The best rows for queries of `width` finite floats, best first where their order is of use, equal scores by ascending row;
  // fewer than k only when no others are eligible. `hits[i]` has room for k; `found[i]`: how many. Equal to the answers one by one, but the queries
  // share the reading of the lists. What was read is counted for each query as if it were alone.
  Work search(Matrix<const float> queries, std::span<const Ask> asks, std::span<Hit* const> hits,
              std::span<std::size_t> found) const;

 private:
  struct Scratch;
  struct File {  // where its parts are; nothing of it is trusted beyond what the constructor has checked
    std::size_t rows = 0, held = 0, lists = 0, blocks = 0;
    const float *lowest = nullptr, *step = nullptr;    // of the centroids' 8-bit codes, by column
    const float *scale = nullptr, *variance = nullptr;  // of the residuals' 4-bit codes, and of the residuals
    const float* spread = nullptr;                      // of a list: its standard deviation over that of all
    const std::uint32_t* first_block = nullptr;         // lists + 1
    const std::uint8_t *centroids = nullptr, *codes = nullptr;
  };

  File file_;
  Matrix<const float> query_map_;
  Rows vectors_;
};

}  // namespace twhin
