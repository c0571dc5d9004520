// The inner loops in plain C++: what the compiler makes of them on any processor, NEON included.
#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels.h"

namespace twhin {
namespace {

std::int32_t product(const std::uint8_t* codes, const std::int32_t* word) noexcept {
  std::int8_t query[4];
  std::memcpy(query, word, 4);
  return codes[0] * query[0] + codes[1] * query[1] + codes[2] * query[2] + codes[3] * query[3];
}

void map(const float* query, Matrix<const float> map, float* out) {
  std::fill(out, out + map.columns, 0.0F);
  for (std::size_t i = 0; i < map.rows; ++i) {
    const float* row = map.data + i * map.columns;
    for (std::size_t j = 0; j < map.columns; ++j) out[j] += query[i] * row[j];
  }
}

void coarse(const std::uint8_t* codes, std::size_t n_groups, std::size_t quads, const std::int32_t* query,
            std::int32_t* sums) {
  std::fill(sums, sums + n_groups * kLanes, 0);
  for (std::size_t g = 0; g < n_groups; ++g, sums += kLanes) {
    for (std::size_t q = 0; q < quads; ++q, codes += 64) {
      for (std::size_t i = 0; i < kLanes; ++i) sums[i] += product(codes + 4 * i, query + q);
    }
  }
}

void nearest4(const Nearest& among, const std::int32_t* const rows[4], const float delta[4], std::int32_t best[4]) {
  for (std::size_t r = 0; r < 4; ++r) {
    float highest = 0;
    best[r] = -1;
    for (std::size_t g = 0; g < among.n_groups; ++g) {
      std::int32_t sums[kLanes];
      coarse(among.codes + g * among.quads * 64, 1, among.quads, rows[r], sums);
      for (std::size_t i = 0; i < kLanes; ++i) {
        const float score = static_cast<float>(sums[i]) * delta[r] + among.bias[g * kLanes + i];
        if (best[r] < 0 || score > highest) highest = score, best[r] = static_cast<std::int32_t>(g * kLanes + i);
      }
    }
  }
}

std::size_t scan(const Scan& scan, float* scores, std::uint32_t* rows) {
  std::size_t found = 0;
  const std::uint8_t* codes = scan.blocks;
  for (std::size_t b = 0; b < scan.n_blocks; ++b, codes += 64) {
    std::int32_t sums[kLanes] = {};
    for (std::size_t g = 0; g < scan.groups; ++g, codes += 64) {
      std::uint8_t low[64], high[64];
      for (std::size_t i = 0; i < 64; ++i) low[i] = codes[i] & 15, high[i] = codes[i] >> 4;
      for (std::size_t i = 0; i < kLanes; ++i) {
        sums[i] += product(low + 4 * i, scan.query + 2 * g) + product(high + 4 * i, scan.query + 2 * g + 1);
      }
    }
    std::uint32_t row[kLanes];
    std::memcpy(row, codes, sizeof row);
    for (std::size_t i = 0; i < kLanes; ++i) {
      const float score = static_cast<float>(sums[i]) * scan.delta + scan.base;
      if (score > scan.threshold && row[i] < scan.n_rows) scores[found] = score, rows[found++] = row[i];
    }
  }
  return found;
}

float dot(const float* a, const float* b, std::size_t n) {
  float lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::size_t j = 0; j < kLanes; ++j) lanes[j] += a[i + j] * b[i + j];
  }
  for (std::size_t j = 0; i + j < n; ++j) lanes[j] += a[i + j] * b[i + j];
  return folded(lanes);
}

float widened(std::uint16_t half) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3FFU;
  if (exponent == 0) {  // below the smallest normal number: a multiple of 2^-24
    const float value = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -value : value;
  }
  const std::uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

void from_halves(const std::uint16_t* halves, std::size_t n, float* out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = widened(halves[i]);
}

void from_codes(const std::int8_t* codes, float scale, std::size_t n, float* out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(codes[i]) * scale;
}

float kth_largest(float* values, float*, std::size_t n, std::size_t k) {
  std::nth_element(values, values + (k - 1), values + n, [](float a, float b) { return a > b; });
  return values[k - 1];
}

std::size_t keep(float* scores, std::uint32_t* rows, std::size_t n, float threshold) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (scores[i] >= threshold) scores[kept] = scores[i], rows[kept++] = rows[i];
  }
  return kept;
}

std::size_t places(const float* values, std::size_t n, float threshold, std::uint32_t* out) {
  std::size_t found = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (values[i] >= threshold) out[found++] = static_cast<std::uint32_t>(i);
  }
  return found;
}

}  // namespace

const Kernels kPlainKernels{map, coarse, nearest4, scan, dot, from_halves, from_codes, kth_largest, keep, places};

}  // namespace twhin
