// Decoding rows that are kept in fewer bytes. A decoded number is rounded once, so that every instruction set gives the same.
#include "rows.h"

#include <algorithm>
#include <cstring>

#include "kernels.h"

namespace twhin {
namespace {

template <class T>
const std::uint8_t* bytes_of(const T* data) {
  return reinterpret_cast<const std::uint8_t*>(data);
}

}  // namespace

Rows::Rows(Matrix<const float> values)
    : data_(bytes_of(values.data)), rows_(values.rows), columns_(values.columns), stride_(4 * values.columns), form_(Form::float32) {}

Rows::Rows(Matrix<const std::uint16_t> halves)
    : data_(bytes_of(halves.data)), rows_(halves.rows), columns_(halves.columns), stride_(2 * halves.columns), form_(Form::float16) {}

Rows::Rows(Matrix<const std::uint8_t> coded, std::size_t dim)
    : data_(coded.data), rows_(coded.rows), columns_(0), stride_(coded.columns), codes_(dim), form_(Form::int8) {
  require(dim > 0 && coded.columns > dim && (coded.columns - dim) % 4 == 0, "a row is codes, and after them float32");
  columns_ = dim + (coded.columns - dim) / 4 - 1;
}

const float* Rows::decoded(std::size_t row, std::size_t n, float* room) const {
  const Kernels& run = kernels();
  if (form_ == Form::float16) {
    run.from_halves(reinterpret_cast<const std::uint16_t*>(at(row)), n, room);
    return room;
  }
  const std::size_t coded = std::min(n, codes_);
  run.from_codes(reinterpret_cast<const std::int8_t*>(at(row)), scale(row), coded, room);
  std::memcpy(room + coded, at(row) + codes_, (n - coded) * sizeof(float));
  return room;
}

float Rows::dot(std::size_t row, const float* with, std::size_t n, float* room) const {
  if (form_ == Form::int8 && n >= codes_ && codes_ % kGroup == 0)  // as they are: nothing is written to be read again
    return kernels().dot_codes(reinterpret_cast<const std::int8_t*>(at(row)), scale(row), codes_, with, n - codes_);
  return kernels().dot(with, read(row, n, room), n);
}

void Rows::dots(std::span<const std::uint32_t> rows, const float* with, std::size_t n, float* room, float* out) const {
  require(rows.size() <= kAtOnce, "too many rows at once");
  if (form_ == Form::float32) {
    const float* from[kAtOnce];
    for (std::size_t i = 0; i < rows.size(); ++i) from[i] = reinterpret_cast<const float*>(at(rows[i]));
    kernels().dots(from, rows.size(), with, n, out);
  } else {
    for (std::size_t i = 0; i < rows.size(); ++i) out[i] = dot(rows[i], with, n, room);
  }
}

}  // namespace twhin
