// The inner loops for AVX2: products of bytes in pairs, then sums of pairs. What AVX2 does no better is the plain one's.
#include "kernels.h"

#if TWHIN_X86
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <limits>

namespace twhin {
namespace {

TWHIN_AVX2 void map(const float* query, Matrix<const float> map, float* out) {
  for (std::size_t first = 0; first < map.columns; first += kLanes) {
    __m256 low = _mm256_setzero_ps(), high = low;
    const float* row = map.data + first;
    for (std::size_t i = 0; i < map.rows; ++i, row += map.columns) {
      const __m256 q = _mm256_set1_ps(query[i]);
      low = _mm256_add_ps(low, _mm256_mul_ps(q, _mm256_loadu_ps(row)));
      high = _mm256_add_ps(high, _mm256_mul_ps(q, _mm256_loadu_ps(row + 8)));
    }
    _mm256_storeu_ps(out + first, low);
    _mm256_storeu_ps(out + first + 8, high);
  }
}

// Eight sums of four products of a byte of 0 to 255: in 16 bits two of them would not fit, so they are widened first.
TWHIN_AVX2 inline __m256i wide_products(__m256i codes, __m256i query) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i low = _mm256_madd_epi16(_mm256_unpacklo_epi8(codes, zero),
                                        _mm256_srai_epi16(_mm256_unpacklo_epi8(zero, query), 8));
  const __m256i high = _mm256_madd_epi16(_mm256_unpackhi_epi8(codes, zero),
                                         _mm256_srai_epi16(_mm256_unpackhi_epi8(zero, query), 8));
  // low holds two sums of pairs each of rows 0, 1 (and 4, 5), high those of rows 2, 3 (and 6, 7).
  return _mm256_hadd_epi32(low, high);
}

TWHIN_AVX2 inline __m256i load(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }

TWHIN_AVX2 inline void group_sums(const std::uint8_t* codes, std::size_t quads, const std::int32_t* query,
                                  __m256i sums[2]) {
  sums[0] = sums[1] = _mm256_setzero_si256();
  for (std::size_t q = 0; q < quads; ++q, codes += 64) {
    const __m256i word = _mm256_set1_epi32(query[q]);
    sums[0] = _mm256_add_epi32(sums[0], wide_products(load(codes), word));
    sums[1] = _mm256_add_epi32(sums[1], wide_products(load(codes + 32), word));
  }
}

TWHIN_AVX2 void coarse(const std::uint8_t* codes, std::size_t n_groups, std::size_t quads, const std::int32_t* query,
                       std::int32_t* sums) {
  for (std::size_t g = 0; g < n_groups; ++g, codes += quads * 64, sums += kLanes) {
    __m256i halves[2];
    group_sums(codes, quads, query, halves);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums), halves[0]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + 8), halves[1]);
  }
}

TWHIN_AVX2 void nearest4(const Nearest& among, const std::int32_t* const rows[4], const float delta[4],
                         std::int32_t best[4]) {
  for (int r = 0; r < 4; ++r) {
    __m256 highest = _mm256_set1_ps(-std::numeric_limits<float>::infinity());
    __m256i at = _mm256_setzero_si256();
    __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for (std::size_t g = 0; g < among.n_groups; ++g) {
      __m256i halves[2];
      group_sums(among.codes + g * among.quads * 64, among.quads, rows[r], halves);
      for (int h = 0; h < 2; ++h) {
        const __m256 score = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(halves[h]), _mm256_set1_ps(delta[r])),
                                           _mm256_loadu_ps(among.bias + kLanes * g + 8 * h));
        const __m256 better = _mm256_cmp_ps(score, highest, _CMP_GT_OQ);
        highest = _mm256_blendv_ps(highest, score, better);
        at = _mm256_blendv_epi8(at, places, _mm256_castps_si256(better));
        places = _mm256_add_epi32(places, _mm256_set1_epi32(8));
      }
    }
    float scores[8];
    std::int32_t place[8];
    _mm256_storeu_ps(scores, highest);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(place), at);
    int top = 0;
    for (int i = 1; i < 8; ++i) {
      if (scores[i] > scores[top] || (scores[i] == scores[top] && place[i] < place[top])) top = i;
    }
    best[r] = place[top];
  }
}

// Sums of pairs stay below 2^15 for four groups: 4 groups · 2 halves of a byte · 2 products · 15 · 127 = 30,480.
constexpr std::size_t kGroupsInShort = 4;

TWHIN_AVX2 inline void block_sums(const std::uint8_t* codes, std::size_t groups, const std::int32_t* query,
                                  std::int32_t sums[kLanes]) {
  const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  __m256i total[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (std::size_t first = 0; first < groups; first += kGroupsInShort) {
    __m256i pairs[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (std::size_t g = first; g < std::min(groups, first + kGroupsInShort); ++g) {
      const __m256i q0 = _mm256_set1_epi32(query[2 * g]), q1 = _mm256_set1_epi32(query[2 * g + 1]);
      for (int h = 0; h < 2; ++h) {
        const __m256i code = load(codes + 64 * g + 32 * h);
        pairs[h] = _mm256_add_epi16(pairs[h], _mm256_maddubs_epi16(_mm256_and_si256(code, low), q0));
        pairs[h] = _mm256_add_epi16(
            pairs[h], _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(code, 4), low), q1));
      }
    }
    for (int h = 0; h < 2; ++h) total[h] = _mm256_add_epi32(total[h], _mm256_madd_epi16(pairs[h], ones));
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums), total[0]);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + 8), total[1]);
}

TWHIN_AVX2 std::size_t scan(const Scan& scan, float* scores, std::uint32_t* rows) {
  const std::size_t stride = 64 * (scan.groups + 1);
  std::size_t found = 0;
  for (std::size_t b = 0; b < scan.n_blocks; ++b) {
    const std::uint8_t* block = scan.blocks + b * stride;
    for (std::size_t line = 0; line < stride; line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(scan.next + b * stride + line), _MM_HINT_T0);
    }
    alignas(32) std::int32_t sums[kLanes];
    block_sums(block, scan.groups, scan.query, sums);
    alignas(32) float score[kLanes];
    int above = 0;
    for (int h = 0; h < 2; ++h) {
      const __m256 sum = _mm256_cvtepi32_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(sums + 8 * h)));
      const __m256 value = _mm256_add_ps(_mm256_mul_ps(sum, _mm256_set1_ps(scan.delta)), _mm256_set1_ps(scan.base));
      _mm256_store_ps(score + 8 * h, value);
      above |= _mm256_movemask_ps(_mm256_cmp_ps(value, _mm256_set1_ps(scan.threshold), _CMP_GT_OQ)) << (8 * h);
    }
    for (; above != 0; above &= above - 1) {
      const int lane = __builtin_ctz(static_cast<unsigned>(above));
      std::uint32_t row;
      std::memcpy(&row, block + 64 * scan.groups + 4 * lane, 4);
      if (row < scan.n_rows) scores[found] = score[lane], rows[found++] = row;
    }
  }
  return found;
}

TWHIN_AVX2 float dot(const float* a, const float* b, std::size_t n) {
  __m256 low = _mm256_setzero_ps(), high = low;
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    low = _mm256_add_ps(low, _mm256_mul_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i)));
    high = _mm256_add_ps(high, _mm256_mul_ps(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8)));
  }
  alignas(32) float lanes[kLanes];
  _mm256_store_ps(lanes, low);
  _mm256_store_ps(lanes + 8, high);
  for (std::size_t j = 0; i + j < n; ++j) lanes[j] += a[i + j] * b[i + j];
  return folded(lanes);
}

TWHIN_AVX2 void from_halves(const std::uint16_t* halves, std::size_t n, float* out) {
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves + i))));
  }
  kPlainKernels.from_halves(halves + i, n - i, out + i);
}

TWHIN_AVX2 void from_codes(const std::int8_t* codes, float scale, std::size_t n, float* out) {
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256i wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + i)));
    _mm256_storeu_ps(out + i, _mm256_mul_ps(_mm256_cvtepi32_ps(wide), _mm256_set1_ps(scale)));
  }
  kPlainKernels.from_codes(codes + i, scale, n - i, out + i);
}

float kth_largest(float* values, float* spare, std::size_t n, std::size_t k) {
  return kPlainKernels.kth_largest(values, spare, n, k);
}

std::size_t keep(float* scores, std::uint32_t* rows, std::size_t n, float threshold) {
  return kPlainKernels.keep(scores, rows, n, threshold);
}

TWHIN_AVX2 std::size_t places(const float* values, std::size_t n, float threshold, std::uint32_t* out) {
  std::size_t found = 0, i = 0;
  for (; i + 8 <= n; i += 8) {
    int good = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(values + i), _mm256_set1_ps(threshold), _CMP_GE_OQ));
    for (; good != 0; good &= good - 1) {
      out[found++] = static_cast<std::uint32_t>(i) + static_cast<std::uint32_t>(__builtin_ctz(static_cast<unsigned>(good)));
    }
  }
  for (; i < n; ++i) {
    if (values[i] >= threshold) out[found++] = static_cast<std::uint32_t>(i);
  }
  return found;
}

}  // namespace

const Kernels kAvx2Kernels{map, coarse, nearest4, scan, dot, from_halves, from_codes, kth_largest, keep, places};

}  // namespace twhin
#endif
