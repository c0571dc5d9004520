// Both numbers of a mass are read and written as one. Entries without a mass are added like the others: half of them have one, and no
// processor can guess which. Looked up by two bytes, those that have none cost a quarter of the lines that eight would.
#include "masses.h"

#include <algorithm>
#include <cmath>

#include "level.h"
#if TWHIN_X86
#include <immintrin.h>
#endif

namespace twhin {
namespace {

typedef float Pair __attribute__((vector_size(8), may_alias));  // of a mass: one load, one addition, one store

Pair& pair_of(Mass& mass) { return reinterpret_cast<Pair&>(mass); }
const Pair& pair_of(const Mass& mass) { return reinterpret_cast<const Pair&>(mass); }

void divide_plain(const Csr& lists, std::span<const std::int32_t> rows, Mass* masses) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto degree = static_cast<float>(std::max<std::int64_t>(lists.degree(static_cast<std::size_t>(rows[i])), 1));
    const float share = 1.0f / degree;
    masses[i].plain *= share, masses[i].root *= std::sqrt(share);
  }
}

#if TWHIN_X86
TWHIN_AVX512 void divide_avx512(const Csr& lists, std::span<const std::int32_t> rows, Mass* masses) {
  const __m512i none = _mm512_setzero_si512(), most = _mm512_set1_epi64(static_cast<long long>(lists.indices.size()));
  const __m256i end = _mm256_set1_epi32(static_cast<int>(lists.rows()));
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
    const __m512d factors = _mm512_castsi512_pd(_mm512_or_si512(low, _mm512_slli_epi64(high, 32)));
    const __m512d mass = _mm512_maskz_loadu_pd(here, masses + i);
    _mm512_mask_storeu_pd(masses + i, here, _mm512_castps_pd(_mm512_mul_ps(_mm512_castpd_ps(mass), _mm512_castpd_ps(factors))));
  }
}
#endif

}  // namespace

void Masses::begin(std::size_t entities, std::size_t most) {
  forget();  // what the user before has left
  entities_ = entities;
  places_.reserve(entities + 1);
  if (rows_.size() < most + 1) rows_.resize(most + 1);
  if (masses_.size() < most + 1) masses_.resize(most + 1);
}

void Masses::add(std::span<const std::int32_t> rows, Mass share) {
  const Pair shares = pair_of(share);
  std::uint16_t* const places = places_.data();
  std::int32_t* const out = rows_.data();
  Mass* const masses = masses_.data();
  std::size_t count = count_;
  for (const std::int32_t row : rows) {
    if (static_cast<std::uint32_t>(row) >= entities_) continue;
    const std::size_t known = places[row], place = known ? known : count + 1;
    pair_of(masses[place]) += shares;
    places[row] = static_cast<std::uint16_t>(place);
    out[count] = row;  // whether it is new cannot be guessed: it is written, and perhaps written over
    count += known == 0;
  }
  count_ = count;
}

void Masses::divide_by_degrees(const Csr& lists) {
  for (const std::int32_t row : rows()) lists.fetch_ends(static_cast<std::size_t>(row));
#if TWHIN_X86
  if (level() == Level::avx512) return divide_avx512(lists, rows(), masses_.data() + 1);
#endif
  divide_plain(lists, rows(), masses_.data() + 1);
}

// The sum of n masses, of the rows that `row` names.
template <class Row>
Mass Masses::sum_of_some(std::size_t n, Row row) const {
  constexpr std::size_t kSums = 4;  // so that none waits for the last addition
  Pair sums[kSums] = {};
  const std::uint16_t* const places = places_.data();
  const Mass* const masses = masses_.data();
  const auto mass = [&](std::size_t i) {
    return pair_of(masses[places[std::min<std::size_t>(static_cast<std::uint32_t>(row(i)), entities_)]]);
  };
  std::size_t i = 0;
  for (; i + kSums <= n; i += kSums)
    for (std::size_t j = 0; j < kSums; ++j) sums[j] += mass(i + j);
  for (; i < n; ++i) sums[0] += mass(i);
  const Pair sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  return {sum[0], sum[1]};
}

Mass Masses::sum_of_sample(std::span<const std::int32_t> rows) const {
  if (rows.size() <= kMostSources) return sum_of_some(rows.size(), [&](std::size_t i) { return rows[i]; });
  Mass sum = sum_of_some(kMostSources, [&](std::size_t i) { return rows[i * rows.size() / kMostSources]; });
  const float share = static_cast<float>(rows.size()) / static_cast<float>(kMostSources);
  sum.plain *= share, sum.root *= share;
  return sum;
}

void Masses::forget() {
  if (count_ == 0) return;
  for (const std::int32_t row : rows()) places_[static_cast<std::size_t>(row)] = 0;
  std::fill_n(masses_.begin() + 1, count_, Mass{});
  count_ = 0;
}

}  // namespace twhin
