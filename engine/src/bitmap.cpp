// Picking marked rows out of lists, without a branch: which ones are marked, no processor can guess.
#include "bitmap.h"

#include "level.h"
#if TWHIN_X86
#include <immintrin.h>
#endif

namespace twhin {
namespace {

// There is a bit for the row `end`, and it is never set: what is no row is taken for it.
std::size_t marked_plain(const std::uint64_t* words, std::uint32_t end, std::span<const std::int32_t> rows, std::int32_t* out) {
  std::size_t count = 0;
  for (const std::int32_t row : rows) {
    const std::uint32_t at = std::min(static_cast<std::uint32_t>(row), end);
    out[count] = row;
    count += words[at >> 6] >> (at & 63) & 1;
  }
  return count;
}

#if TWHIN_X86
TWHIN_AVX512 std::size_t marked_avx512(const std::uint64_t* words, std::uint32_t end, std::span<const std::int32_t> rows,
                                       std::int32_t* out) {
  const __m512i last = _mm512_set1_epi32(static_cast<int>(end)), one = _mm512_set1_epi32(1), low = _mm512_set1_epi32(31);
  std::size_t count = 0;
  for (std::size_t i = 0; i < rows.size(); i += 16) {
    const std::size_t left = rows.size() - i;
    const __mmask16 here = left >= 16 ? __mmask16(0xFFFF) : __mmask16((1U << left) - 1);
    const __m512i row = _mm512_maskz_loadu_epi32(here, rows.data() + i), at = _mm512_min_epu32(row, last);
    const __m512i word = _mm512_i32gather_epi32(_mm512_srli_epi32(at, 5), words, 4);
    const __mmask16 set = _mm512_mask_test_epi32_mask(here, word, _mm512_sllv_epi32(one, _mm512_and_epi32(at, low)));
    _mm512_storeu_si512(out + count, _mm512_maskz_compress_epi32(set, row));
    count += static_cast<std::size_t>(__builtin_popcount(set));
  }
  return count;
}
#endif

}  // namespace

std::size_t Bitmap::marked(std::span<const std::int32_t> rows, std::int32_t* out) const {
  const auto end = static_cast<std::uint32_t>(rows_);
#if TWHIN_X86
  if (level() == Level::avx512) return marked_avx512(words_.data(), end, rows, out);
#endif
  return marked_plain(words_.data(), end, rows, out);
}

}  // namespace twhin
