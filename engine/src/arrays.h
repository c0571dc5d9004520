// The arrays that cross from Python: contiguous, borrowed, never owned. A one-dimensional one is a std::span.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>

namespace twhin {

inline void require(bool holds, const char* otherwise) {
  if (!holds) throw std::invalid_argument(otherwise);
}

template <class T>
struct Matrix {  // row after row; empty for None
  T* data = nullptr;
  std::size_t rows = 0, columns = 0;

  std::span<T> row(std::size_t i) const { return {data + i * columns, columns}; }
};

inline bool finite(Matrix<const float> values) {
  float sum = 0;  // 0 · Inf and 0 · NaN are NaN
  for (std::size_t i = 0; i < values.rows * values.columns; ++i) sum += 0 * values.data[i];
  return sum == 0;
}

}  // namespace twhin
