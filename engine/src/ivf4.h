// `ivf4`, a searcher by inner product: inverted lists of 4-bit codes, read from a mapped file. docs/indexes.md has the
// picture, docs/bundle-format.md the file.
// It borrows the file, the map of queries and the vectors.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "arrays.h"
#include "rows.h"
#include "searcher.h"

namespace twhin {

class Ivf4 final : public Searcher {
 public:
  // `file` is aligned to 64 bytes; `query_map` is width × held; `vectors` are those that are scored, n × width.
  // Throws std::invalid_argument for a file that is none, is cut, or does not fit the others.
  Ivf4(std::span<const std::uint8_t> file, Matrix<const float> query_map, const Rows& vectors);

  std::size_t size() const noexcept override { return vectors_.size(); }
  std::size_t width() const noexcept override { return vectors_.columns(); }

  Work search(Matrix<const float> queries, std::span<const Ask> asks, std::span<Hit* const> hits,
              std::span<std::size_t> found) const override;

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
