// Coordinates as bytes, as products of bytes want them.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace twhin::ivf4 {

// The largest of n absolute values, in lanes that the compiler puts side by side.
inline float largest_of(const float* values, std::size_t n) {
  float lanes[kGroup] = {};
  std::size_t i = 0;
  for (; i + kGroup <= n; i += kGroup) {
    for (std::size_t j = 0; j < kGroup; ++j) {
      const float value = std::fabs(values[i + j]);
      lanes[j] = value > lanes[j] ? value : lanes[j];
    }
  }
  for (; i < n; ++i) lanes[0] = std::max(lanes[0], std::fabs(values[i]));
  return *std::max_element(lanes, lanes + kGroup);
}

// values[j] · scale[j] rounded to a 127th of the largest, which is returned. `products` has room for n.
inline float quantise(const float* values, const float* scale, std::size_t n, float* products, std::int8_t* bytes) {
  for (std::size_t j = 0; j < n; ++j) products[j] = values[j] * scale[j];
  const float largest = largest_of(products, n);
  const float inverse = largest > 1e-30F ? 127 / largest : 0;  // else all are zero for what they weigh
  for (std::size_t j = 0; j < n; ++j) {
    constexpr float kRound = 12582912.0F;  // 1.5 · 2^23: what is added to it loses its fraction
    bytes[j] = static_cast<std::int8_t>(static_cast<std::int32_t>((products[j] * inverse + kRound) - kRound));
  }
  return largest / 127;
}

}  // namespace twhin::ivf4
