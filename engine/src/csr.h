// Adjacency by row, as bundle/csr.py lays it out. Offsets come from a file: a bad one gives fewer edges, never others' memory.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace twhin {

struct Csr {  // row i is indices[indptr[i] .. indptr[i + 1])
  std::span<const std::int64_t> indptr;
  std::span<const std::int32_t> indices;

  std::size_t rows() const { return indptr.empty() ? 0 : indptr.size() - 1; }

  std::size_t begin_of(std::size_t row) const { return row < rows() ? clamped(indptr[row]) : 0; }

  std::span<const std::int32_t> row(std::size_t row) const {
    if (row >= rows()) return {};
    const std::size_t begin = clamped(indptr[row]), end = clamped(indptr[row + 1]);
    return end > begin ? indices.subspan(begin, end - begin) : std::span<const std::int32_t>{};
  }

  void fetch_ends(std::size_t row) const { __builtin_prefetch(indptr.data() + std::min(row, rows())); }

  std::int64_t degree(std::size_t row) const {
    if (row >= rows()) return 0;
    return static_cast<std::int64_t>(clamped(indptr[row + 1])) - static_cast<std::int64_t>(clamped(indptr[row]));
  }

 private:
  std::size_t clamped(std::int64_t offset) const {
    return static_cast<std::size_t>(std::clamp<std::int64_t>(offset, 0, static_cast<std::int64_t>(indices.size())));
  }
};

}  // namespace twhin
