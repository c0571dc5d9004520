// Half of the entries are marked, and no processor can guess which: both numbers of a row are gathered, and scattered, at once.
#include "masses.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "level.h"
#if TWHIN_X86
#include <immintrin.h>
#endif

namespace twhin {
namespace {

Mass sum_plain(const Bitmap& bits, std::span<const std::int32_t> rows, const Mass* masses) {
  Mass sum{0, 0};
  for (const std::int32_t row : rows) {
    if (!bits.holds(row) || !bits.test(static_cast<std::size_t>(row))) continue;
    const Mass& mass = masses[row];
    sum.plain += mass.plain, sum.root += mass.root;
  }
  return sum;
}

std::size_t add_plain(std::size_t end, std::span<const std::int32_t> rows, Mass share, Mass* masses, std::int32_t* out) {
  std::size_t count = 0;
  for (const std::int32_t row : rows) {
    if (static_cast<std::uint32_t>(row) >= end) continue;
    Mass& mass = masses[row];
    out[count] = row;
    count += mass.plain == 0;
    mass.plain += share.plain, mass.root += share.root;
  }
  return count;
}

void divide_plain(const Csr& lists, std::span<const std::int32_t> rows, Mass* masses) {
  for (const std::int32_t row : rows) {
    const auto degree = static_cast<float>(std::max<std::int64_t>(lists.degree(static_cast<std::size_t>(row)), 1));
    const float share = 1.0f / degree;
    masses[row].plain *= share, masses[row].root *= std::sqrt(share);
  }
}

#if TWHIN_X86
TWHIN_AVX512 Mass sum_avx512(const Bitmap& bits, std::span<const std::int32_t> rows, const Mass* masses) {
  const __m512i end = _mm512_set1_epi32(static_cast<int>(bits.rows())), one = _mm512_set1_epi32(1), low = _mm512_set1_epi32(31);
  __m512 first = _mm512_setzero_ps(), second = first;  // plain and root side by side, of eight rows each
  for (std::size_t i = 0; i < rows.size(); i += 16) {
    const std::size_t left = rows.size() - i;
    const __mmask16 here = left >= 16 ? __mmask16(0xFFFF) : __mmask16((1U << left) - 1);
    // There is a bit for the row `end`, and it is never set: what is no row is taken for it.
    const __m512i row = _mm512_mask_loadu_epi32(end, here, rows.data() + i), at = _mm512_min_epu32(row, end);
    const __m512i word = _mm512_i32gather_epi32(_mm512_srli_epi32(at, 5), bits.words(), 4);
    const __mmask16 set = _mm512_test_epi32_mask(word, _mm512_sllv_epi32(one, _mm512_and_epi32(at, low)));
    const __m512d nothing = _mm512_setzero_pd();
    const auto pairs = [&](__m256i of, __mmask8 marked) TWHIN_AVX512 {
      return _mm512_castpd_ps(_mm512_mask_i32gather_pd(nothing, marked, of, masses, 8));
    };
    first = _mm512_add_ps(first, pairs(_mm512_castsi512_si256(at), static_cast<__mmask8>(set)));
    second = _mm512_add_ps(second, pairs(_mm512_extracti64x4_epi64(at, 1), static_cast<__mmask8>(set >> 8)));
  }
  const __m512 both = _mm512_add_ps(first, second);
  return {_mm512_mask_reduce_add_ps(0x5555, both), _mm512_mask_reduce_add_ps(0xAAAA, both)};
}

// Rows of a list are distinct: of eight that are gathered and scattered at once, none is another.
TWHIN_AVX512 std::size_t add_avx512(std::size_t end, std::span<const std::int32_t> rows, Mass share, Mass* masses,
                                    std::int32_t* out) {
  const __m256i last = _mm256_set1_epi32(static_cast<int>(end));
  const __m512 both = _mm512_castpd_ps(_mm512_set1_pd(std::bit_cast<double>(share)));
  const __m512d nothing = _mm512_setzero_pd();
  std::size_t count = 0;
  for (std::size_t i = 0; i < rows.size(); i += 8) {
    const std::size_t left = rows.size() - i;
    const __mmask8 here = left >= 8 ? __mmask8(0xFF) : __mmask8((1U << left) - 1);
    const __m256i row = _mm256_maskz_loadu_epi32(here, rows.data() + i);
    const __mmask8 inside = _mm256_mask_cmplt_epu32_mask(here, row, last);
    const __m512d before = _mm512_mask_i32gather_pd(nothing, inside, row, masses, 8);
    const __mmask8 fresh = _mm512_mask_cmpeq_epi64_mask(inside, _mm512_castpd_si512(before), _mm512_setzero_si512());
    _mm512_mask_i32scatter_pd(masses, inside, row, _mm512_castps_pd(_mm512_add_ps(_mm512_castpd_ps(before), both)), 8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + count), _mm256_maskz_compress_epi32(fresh, row));
    count += static_cast<std::size_t>(__builtin_popcount(fresh));
  }
  return count;
}

TWHIN_AVX512 void divide_avx512(const Csr& lists, std::span<const std::int32_t> rows, Mass* masses) {
  const __m512i none = _mm512_setzero_si512(), most = _mm512_set1_epi64(static_cast<long long>(lists.indices.size()));
  const __m256i end = _mm256_set1_epi32(static_cast<int>(lists.rows()));
  const __m512d nothing = _mm512_setzero_pd();
  const auto clamped = [&](__m512i offset) TWHIN_AVX512 { return _mm512_min_epi64(_mm512_max_epi64(offset, none), most); };
  for (std::size_t i = 0; i < rows.size(); i += 8) {
    const std::size_t left = rows.size() - i;
    const __mmask8 here = left >= 8 ? __mmask8(0xFF) : __mmask8((1U << left) - 1);
    const __m256i row = _mm256_maskz_loadu_epi32(here, rows.data() + i);
    const __mmask8 inside = _mm256_mask_cmplt_epu32_mask(here, row, end);
    const auto* from = lists.indptr.data();
    const __m512i first = clamped(_mm512_mask_i32gather_epi64(none, inside, row, from, 8));
    const __m512i behind = clamped(_mm512_mask_i32gather_epi64(none, inside, row, from + 1, 8));
    const __m512i degree = _mm512_max_epi64(_mm512_sub_epi64(behind, first), _mm512_set1_epi64(1));
    const __m256 share = _mm256_div_ps(_mm256_set1_ps(1.0f), _mm512_cvtepi64_ps(degree)), root = _mm256_sqrt_ps(share);
    const __m512i low = _mm512_cvtepu32_epi64(_mm256_castps_si256(share)), high = _mm512_cvtepu32_epi64(_mm256_castps_si256(root));
    const __m512 factors = _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi64(high, 32)));
    const __m512 mass = _mm512_castpd_ps(_mm512_mask_i32gather_pd(nothing, here, row, masses, 8));
    _mm512_mask_i32scatter_pd(masses, here, row, _mm512_castps_pd(_mm512_mul_ps(mass, factors)), 8);
  }
}
#endif

}  // namespace

std::size_t add_share(std::size_t end, std::span<const std::int32_t> rows, Mass share, Mass* masses, std::int32_t* out) {
#if TWHIN_X86
  if (level() == Level::avx512) return add_avx512(end, rows, share, masses, out);
#endif
  return add_plain(end, rows, share, masses, out);
}

void divide_by_degrees(const Csr& lists, std::span<const std::int32_t> rows, Mass* masses) {
#if TWHIN_X86
  if (level() == Level::avx512) return divide_avx512(lists, rows, masses);
#endif
  divide_plain(lists, rows, masses);
}

Mass sum_of_marked(const Bitmap& bits, std::span<const std::int32_t> rows, const Mass* masses) {
#if TWHIN_X86
  if (level() == Level::avx512) return sum_avx512(bits, rows, masses);
#endif
  return sum_plain(bits, rows, masses);
}

}  // namespace twhin
