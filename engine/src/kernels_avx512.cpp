// The inner loops for AVX-512 with VNNI: four products of bytes added to an integer by one instruction.
#include "kernels.h"

#if TWHIN_X86
#include <immintrin.h>

#include <cstring>
#include <limits>
#include <utility>

namespace twhin {
namespace {

TWHIN_AVX512 inline __mmask16 first_lanes(std::size_t n) {
  return n >= kLanes ? __mmask16(0xFFFF) : __mmask16((1U << n) - 1);
}

template <std::size_t N>
TWHIN_AVX512 inline void map_columns(const float* query, Matrix<const float> map, std::size_t first, float* out) {
  __m512 sums[N];
  for (std::size_t j = 0; j < N; ++j) sums[j] = _mm512_setzero_ps();
  const float* row = map.data + first;
  for (std::size_t i = 0; i < map.rows; ++i, row += map.columns) {
    const __m512 q = _mm512_set1_ps(query[i]);
    for (std::size_t j = 0; j < N; ++j) {
      sums[j] = _mm512_add_ps(sums[j], _mm512_mul_ps(q, _mm512_loadu_ps(row + kLanes * j)));
    }
  }
  for (std::size_t j = 0; j < N; ++j) _mm512_storeu_ps(out + first + kLanes * j, sums[j]);
}

TWHIN_AVX512 void map(const float* query, Matrix<const float> map, float* out) {
  std::size_t first = 0;
  for (; first + 8 * kLanes <= map.columns; first += 8 * kLanes) map_columns<8>(query, map, first, out);
  for (; first + 2 * kLanes <= map.columns; first += 2 * kLanes) map_columns<2>(query, map, first, out);
  for (; first < map.columns; first += kLanes) map_columns<1>(query, map, first, out);
}

TWHIN_AVX512 void coarse(const std::uint8_t* codes, std::size_t n_groups, std::size_t quads, const std::int32_t* query,
                         std::int32_t* sums) {
  for (std::size_t g = 0; g < n_groups; ++g, codes += quads * 64) {
    __m512i even = _mm512_setzero_si512(), odd = even;  // two chains, so that none waits for the last product
    for (std::size_t q = 0; q + 1 < quads; q += 2) {
      even = _mm512_dpbusd_epi32(even, _mm512_loadu_si512(codes + 64 * q), _mm512_set1_epi32(query[q]));
      odd = _mm512_dpbusd_epi32(odd, _mm512_loadu_si512(codes + 64 * q + 64), _mm512_set1_epi32(query[q + 1]));
    }
    _mm512_storeu_si512(sums + kLanes * g, _mm512_add_epi32(even, odd));
  }
}

TWHIN_AVX512 void nearest4(const Nearest& among, const std::int32_t* const rows[4], const float delta[4],
                           std::int32_t best[4]) {
  __m512 highest[4];
  __m512i at[4];
  for (int r = 0; r < 4; ++r) highest[r] = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  for (int r = 0; r < 4; ++r) at[r] = _mm512_setzero_si512();
  __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const std::uint8_t* codes = among.codes;
  for (std::size_t g = 0; g < among.n_groups; ++g) {
    __m512i sums[4];
    for (int r = 0; r < 4; ++r) sums[r] = _mm512_setzero_si512();
    for (std::size_t q = 0; q < among.quads; ++q, codes += 64) {
      const __m512i code = _mm512_loadu_si512(codes);
      for (int r = 0; r < 4; ++r) sums[r] = _mm512_dpbusd_epi32(sums[r], code, _mm512_set1_epi32(rows[r][q]));
    }
    const __m512 bias = _mm512_loadu_ps(among.bias + kLanes * g);
    for (int r = 0; r < 4; ++r) {
      const __m512 score = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums[r]), _mm512_set1_ps(delta[r])), bias);
      const __mmask16 better = _mm512_cmp_ps_mask(score, highest[r], _CMP_GT_OQ);
      highest[r] = _mm512_mask_mov_ps(highest[r], better, score);
      at[r] = _mm512_mask_mov_epi32(at[r], better, places);
    }
    places = _mm512_add_epi32(places, _mm512_set1_epi32(kLanes));
  }
  for (int r = 0; r < 4; ++r) {  // of equal lanes the lowest place
    const __mmask16 top = _mm512_cmp_ps_mask(highest[r], _mm512_set1_ps(_mm512_reduce_max_ps(highest[r])), _CMP_EQ_OQ);
    best[r] = _mm512_mask_reduce_min_epi32(top, at[r]);
  }
}

// The low half of a byte is masked; the high half stays where it is and counts sixteenfold until the end.
TWHIN_AVX512 inline __m512i sums_of(__m512i low, __m512i high) { return _mm512_add_epi32(low, _mm512_srai_epi32(high, 4)); }

TWHIN_AVX512 inline std::size_t append(const Scan& scan, __m512i sums, const std::uint8_t* ids, float* scores,
                                       std::uint32_t* rows) {
  const __m512 score =
      _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(scan.delta)), _mm512_set1_ps(scan.base));
  const __mmask16 above = _mm512_cmp_ps_mask(score, _mm512_set1_ps(scan.threshold), _CMP_GT_OQ);
  if (above == 0) return 0;
  const __m512i row = _mm512_loadu_si512(ids);
  const __mmask16 good = above & _mm512_cmplt_epu32_mask(row, _mm512_set1_epi32(static_cast<int>(scan.n_rows)));
  // Into a register and then all of it: a compressing store is slow on some processors.
  _mm512_storeu_ps(scores, _mm512_maskz_compress_ps(good, score));
  _mm512_storeu_si512(rows, _mm512_maskz_compress_epi32(good, row));
  return static_cast<std::size_t>(__builtin_popcount(good));
}

TWHIN_AVX512 std::size_t scan(const Scan& scan, float* scores, std::uint32_t* rows) {
  const std::size_t stride = 64 * (scan.groups + 1);
  const __m512i low = _mm512_set1_epi8(15), high = _mm512_set1_epi8(static_cast<char>(0xF0));
  std::size_t found = 0;
  for (std::size_t b = 0; b < scan.n_blocks; b += 2) {
    const std::uint8_t* one = scan.blocks + b * stride;
    const bool pair = b + 1 < scan.n_blocks;
    const std::uint8_t* two = pair ? one + stride : one;
    const std::uint8_t* next = scan.next + b * stride;
    _mm_prefetch(reinterpret_cast<const char*>(next + 64 * scan.groups), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(next + stride + 64 * scan.groups), _MM_HINT_T0);
    __m512i low1 = _mm512_setzero_si512(), high1 = low1, low2 = low1, high2 = low1;
    for (std::size_t g = 0; g < scan.groups; ++g) {
      _mm_prefetch(reinterpret_cast<const char*>(next + 64 * g), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(next + stride + 64 * g), _MM_HINT_T0);
      const __m512i q0 = _mm512_set1_epi32(scan.query[2 * g]), q1 = _mm512_set1_epi32(scan.query[2 * g + 1]);
      const __m512i code1 = _mm512_loadu_si512(one + 64 * g), code2 = _mm512_loadu_si512(two + 64 * g);
      low1 = _mm512_dpbusd_epi32(low1, _mm512_and_si512(code1, low), q0);
      high1 = _mm512_dpbusd_epi32(high1, _mm512_and_si512(code1, high), q1);
      low2 = _mm512_dpbusd_epi32(low2, _mm512_and_si512(code2, low), q0);
      high2 = _mm512_dpbusd_epi32(high2, _mm512_and_si512(code2, high), q1);
    }
    found += append(scan, sums_of(low1, high1), one + 64 * scan.groups, scores + found, rows + found);
    if (pair) found += append(scan, sums_of(low2, high2), two + 64 * scan.groups, scores + found, rows + found);
  }
  return found;
}

TWHIN_AVX512 float dot(const float* a, const float* b, std::size_t n) {
  __m512 sum = _mm512_setzero_ps();
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    sum = _mm512_add_ps(sum, _mm512_mul_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i)));
  }
  if (i < n) {
    const __mmask16 rest = first_lanes(n - i);
    const __m512 product = _mm512_mul_ps(_mm512_maskz_loadu_ps(rest, a + i), _mm512_maskz_loadu_ps(rest, b + i));
    sum = _mm512_mask_add_ps(sum, rest, sum, product);
  }
  alignas(64) float lanes[kLanes];
  _mm512_store_ps(lanes, sum);
  return folded(lanes);
}

TWHIN_AVX512 void from_halves(const std::uint16_t* halves, std::size_t n, float* out) {
  for (std::size_t i = 0; i < n; i += kLanes) {
    const __mmask16 here = first_lanes(n - i);
    _mm512_mask_storeu_ps(out + i, here, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(here, halves + i)));
  }
}

TWHIN_AVX512 void from_codes(const std::int8_t* codes, float scale, std::size_t n, float* out) {
  for (std::size_t i = 0; i < n; i += kLanes) {
    const __mmask16 here = first_lanes(n - i);
    const __m512i wide = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(here, codes + i));
    _mm512_mask_storeu_ps(out + i, here, _mm512_mul_ps(_mm512_cvtepi32_ps(wide), _mm512_set1_ps(scale)));
  }
}

// Splits n values by a pivot: those above go to `above`, those below to `below`, how many are equal is what is left.
struct Parts {
  std::size_t above, below;
};

TWHIN_AVX512 inline Parts split(const float* values, std::size_t n, float pivot, float* above, float* below) {
  Parts parts{0, 0};
  const __m512 p = _mm512_set1_ps(pivot);
  for (std::size_t i = 0; i < n; i += kLanes) {
    const __mmask16 here = first_lanes(n - i);
    const __m512 value = _mm512_maskz_loadu_ps(here, values + i);
    const __mmask16 more = _mm512_mask_cmp_ps_mask(here, value, p, _CMP_GT_OQ);
    const __mmask16 less = _mm512_mask_cmp_ps_mask(here, value, p, _CMP_LT_OQ);
    _mm512_storeu_ps(below + parts.below, _mm512_maskz_compress_ps(less, value));
    // Never ahead of what has been read: `above` may be `values` itself.
    _mm512_mask_storeu_ps(above + parts.above, first_lanes(static_cast<std::size_t>(__builtin_popcount(more))),
                          _mm512_maskz_compress_ps(more, value));
    parts.above += static_cast<std::size_t>(__builtin_popcount(more));
    parts.below += static_cast<std::size_t>(__builtin_popcount(less));
  }
  return parts;
}

TWHIN_AVX512 float kth_largest(float* values, float* spare, std::size_t n, std::size_t k) {
  for (;;) {
    const float a = values[n / 4], b = values[n / 2], c = values[n - 1 - n / 4];
    const float pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
    const Parts parts = split(values, n, pivot, values, spare);
    if (k <= parts.above) {
      n = parts.above;
    } else if (k > n - parts.below) {
      k -= n - parts.below;
      n = parts.below;
      std::swap(values, spare);
    } else {
      return pivot;
    }
  }
}

TWHIN_AVX512 std::size_t keep(float* scores, std::uint32_t* rows, std::size_t n, float threshold) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < n; i += kLanes) {
    const __mmask16 here = first_lanes(n - i);
    const __m512 score = _mm512_maskz_loadu_ps(here, scores + i);
    const __m512i row = _mm512_maskz_loadu_epi32(here, rows + i);
    const __mmask16 good = _mm512_mask_cmp_ps_mask(here, score, _mm512_set1_ps(threshold), _CMP_GE_OQ);
    const auto count = static_cast<std::size_t>(__builtin_popcount(good));
    _mm512_mask_storeu_ps(scores + kept, first_lanes(count), _mm512_maskz_compress_ps(good, score));
    _mm512_mask_storeu_epi32(rows + kept, first_lanes(count), _mm512_maskz_compress_epi32(good, row));
    kept += count;
  }
  return kept;
}

TWHIN_AVX512 std::size_t places(const float* values, std::size_t n, float threshold, std::uint32_t* out) {
  std::size_t found = 0;
  __m512i place = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (std::size_t i = 0; i < n; i += kLanes) {
    const __mmask16 here = first_lanes(n - i);
    const __m512 value = _mm512_maskz_loadu_ps(here, values + i);
    const __mmask16 good = _mm512_mask_cmp_ps_mask(here, value, _mm512_set1_ps(threshold), _CMP_GE_OQ);
    if (good) {
      _mm512_storeu_si512(out + found, _mm512_maskz_compress_epi32(good, place));
      found += static_cast<std::size_t>(__builtin_popcount(good));
    }
    place = _mm512_add_epi32(place, _mm512_set1_epi32(kLanes));
  }
  return found;
}

}  // namespace

const Kernels kAvx512Kernels{map, coarse, nearest4, scan, dot, from_halves, from_codes, kth_largest, keep, places};

}  // namespace twhin
#endif
