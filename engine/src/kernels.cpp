// The inner loops, compiled for each instruction set.
#include "kernels.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "level.h"
#if TWHIN_X86
#include <immintrin.h>
#elif TWHIN_ARM
#include <arm_neon.h>
#endif

namespace twhin {
namespace {

using Kernel = Kernels;

inline float half(std::uint16_t bits) noexcept {  // IEEE 754 half precision
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16, exponent = bits >> 10 & 31, mantissa = bits & 0x3FFU;
  if (exponent == 0) {  // below the smallest normal number: a multiple of 2^-24
    const float value = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -value : value;
  }
  const std::uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

// The sum of sixteen lanes, halves onto halves.
inline float folded(const float lanes[kGroup]) noexcept {
  float sum[kGroup];
  for (std::size_t i = 0; i < 8; ++i) sum[i] = lanes[i] + lanes[i + 8];
  for (std::size_t i = 0; i < 4; ++i) sum[i] = sum[i] + sum[i + 4];
  for (std::size_t i = 0; i < 2; ++i) sum[i] = sum[i] + sum[i + 2];
  return sum[0] + sum[1];
}

#define TWHIN_BYTES
#define TWHIN_KERNEL "search_kernel.h"
#include "each_level.h"

}  // namespace

const Kernels& kernels() noexcept { return kernel(); }

}  // namespace twhin
