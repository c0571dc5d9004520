// Half of the entries are marked, and no processor can guess which: both numbers of a marked row are gathered at once.
#include "masses.h"

#include <algorithm>

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
#endif

}  // namespace

Mass sum_of_marked(const Bitmap& bits, std::span<const std::int32_t> rows, const Mass* masses) {
#if TWHIN_X86
  if (level() == Level::avx512) return sum_avx512(bits, rows, masses);
#endif
  return sum_plain(bits, rows, masses);
}

}  // namespace twhin
