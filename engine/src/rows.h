// The vectors that exact scores are made of, as a file keeps them: float32, float16, or bytes with a scale for each row.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "arrays.h"

namespace twhin {

class Rows {  // borrowed from a mapped file, never changed
 public:
  static constexpr const char* kName = "twhin.Rows";

  Rows() = default;  // none
  explicit Rows(Matrix<const float> values);
  explicit Rows(Matrix<const std::uint16_t> halves);
  // A row is `dim` codes of int8, then the columns after the embedding and the scale of the codes, float32 each.
  // Throws std::invalid_argument when a row is no longer than its codes.
  Rows(Matrix<const std::uint8_t> coded, std::size_t dim);

  std::size_t size() const { return rows_; }
  std::size_t columns() const { return columns_; }

  // The first n columns of a row: where they lie, or decoded into `room`, which holds n.
  const float* read(std::size_t row, std::size_t n, float* room) const {
    return form_ == Form::float32 ? reinterpret_cast<const float*>(at(row)) : decoded(row, n, room);
  }
  // The product of a row's first n columns with n numbers: what `dot` makes of `read`, to the bit.
  float dot(std::size_t row, const float* with, std::size_t n, float* room) const;
  // The same of some rows, at most kAtOnce.
  static constexpr std::size_t kAtOnce = 64;
  void dots(std::span<const std::uint32_t> rows, const float* with, std::size_t n, float* room, float* out) const;
  // Of rows that are kept as bytes how many columns are codes, and those of a row; of others 0.
  std::size_t coded() const { return codes_; }
  const std::uint8_t* codes(std::size_t row) const { return at(row); }  // int8
  float scale(std::size_t row) const {
    float scale;
    std::memcpy(&scale, at(row) + stride_ - sizeof scale, sizeof scale);
    return scale;
  }
  void fetch(std::size_t row) const {
    const std::uint8_t* from = at(row);
    for (std::size_t i = 0; i < stride_; i += 64) __builtin_prefetch(from + i);
    __builtin_prefetch(from + stride_ - 1);  // rows begin anywhere in a line
  }

 private:
  enum class Form : std::uint8_t { float32, float16, int8 };
  const std::uint8_t* at(std::size_t row) const { return data_ + row * stride_; }
  const float* decoded(std::size_t row, std::size_t n, float* room) const;

  const std::uint8_t* data_ = nullptr;
  std::size_t rows_ = 0, columns_ = 0, stride_ = 0, codes_ = 0;
  Form form_ = Form::float32;
};

}  // namespace twhin
