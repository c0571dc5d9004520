// What the products multiply, packed for the numbers they multiply in: a chunk's candidates, a tile's queries, and the
// slopes of a block of candidates.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "arithmetic.h"
#include "numbers.h"
#include "products.h"
#include "work.h"

namespace {

// Candidates whose scores are made, and whose slopes are used, together: an even number, of which rows and scores fit the
// first cache or nearly so.
constexpr int BLOCK = 8 * MR;

inline const float* row_of(const Table& table, int dim, int32_t id) { return table.vectors + (int64_t)id * dim; }

inline void gather(const Table& table, int dim, const int32_t* ids, int64_t count, float* out) {
  for (int64_t k = 0; k < count; k++) std::memcpy(out + k * D, row_of(table, dim, ids[k]), dim * 4);
}

// `rows`: one after the other, for sums over coordinates. `steps`: for sums over candidates. `unit`: what 1 is worth.
template <class N>
class Candidates;

template <>
class Candidates<Float32> {
 public:
  explicit Candidates(int64_t most) : rows_(most * D) {}
  bool ready() const { return rows_.data; }
  void gather(const Table& table, int dim, const int32_t* ids, int64_t count) { ::gather(table, dim, ids, count, rows_.data); }
  const float* rows(int64_t j) const { return rows_.data + j * D; }
  const float* steps(int64_t j) const { return rows_.data + j * D; }
  const float* unit(int64_t) const { return nullptr; }

 private:
  Buffer rows_;
};

template <>
class Candidates<Int16> {
 public:
  explicit Candidates(int64_t most) : rows_(most * D / 2), steps_((most + 1) / 2 * D), unit_(most + 1) {}
  bool ready() const { return rows_.data && steps_.data && unit_.data; }
  void gather(const Table& table, int dim, const int32_t* ids, int64_t count) {
    alignas(64) float padded[D] = {};
    alignas(64) int32_t two[2][D];
    for (int64_t j = 0; j < count; j += 2) {
      for (int64_t h = 0; h < 2; h++) {
        if (j + h == count) {
          std::memset(two[1], 0, sizeof two[1]);
          break;
        }
        const float* row = row_of(table, dim, ids[j + h]);
        if (dim < D) row = static_cast<float*>(std::memcpy(padded, row, dim * 4));
        unit_.data[j + h] = to_integers(row, two[h]);
        narrow(two[h], units(rows_) + (j + h) * (D / 2), D);
      }
      pair_across(two[0], two[1], units(steps_) + j / 2 * D);
    }
  }
  const int32_t* rows(int64_t j) const { return units(rows_) + j * (D / 2); }
  const int32_t* steps(int64_t j) const { return units(steps_) + j / 2 * D; }
  const float* unit(int64_t j) const { return unit_.data + j; }

 private:
  Buffer rows_, steps_, unit_;
};

// to[p][i] = from[i][p] for the numbers of a tile, of 32 bits each. In registers: a square of 16 rows is turned by
// interleaving its upper and its lower half four times, one of 8 by pairs, by fours and by halves.
inline void transpose(const int32_t* from, int width, int32_t* to) {
#if defined(__AVX512F__)
  const __m512i even = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(8));
  for (int p = 0; p + 16 <= width; p += 16)
    for (int i = 0; i < TILE; i += 16) {
      __m512i rows[16], turned[16];
      for (int r = 0; r < 16; r++) rows[r] = _mm512_loadu_si512(from + (i + r) * width + p);
      for (int turn = 0; turn < 4; turn++) {
        for (int r = 0; r < 8; r++) {
          turned[2 * r] = _mm512_permutex2var_epi32(rows[r], even, rows[r + 8]);
          turned[2 * r + 1] = _mm512_permutex2var_epi32(rows[r], odd, rows[r + 8]);
        }
        for (int r = 0; r < 16; r++) rows[r] = turned[r];
      }
      for (int r = 0; r < 16; r++) _mm512_storeu_si512(to + (p + r) * TILE + i, rows[r]);
    }
#elif defined(__AVX2__)
  for (int p = 0; p + 8 <= width; p += 8)
    for (int i = 0; i < TILE; i += 8) {
      __m256i rows[8], pairs[8];
      for (int r = 0; r < 8; r++) rows[r] = _mm256_loadu_si256((const __m256i*)(from + (i + r) * width + p));
      for (int r = 0; r < 8; r += 2) {
        pairs[r] = _mm256_unpacklo_epi32(rows[r], rows[r + 1]);
        pairs[r + 1] = _mm256_unpackhi_epi32(rows[r], rows[r + 1]);
      }
      for (int half = 0; half < 8; half += 4)
        for (int r = 0; r < 2; r++) {
          rows[half + 2 * r] = _mm256_unpacklo_epi64(pairs[half + r], pairs[half + r + 2]);
          rows[half + 2 * r + 1] = _mm256_unpackhi_epi64(pairs[half + r], pairs[half + r + 2]);
        }
      for (int r = 0; r < 4; r++) {
        _mm256_storeu_si256((__m256i*)(to + (p + r) * TILE + i), _mm256_permute2x128_si256(rows[r], rows[r + 4], 0x20));
        _mm256_storeu_si256((__m256i*)(to + (p + r + 4) * TILE + i), _mm256_permute2x128_si256(rows[r], rows[r + 4], 0x31));
      }
    }
#else
  for (int p = 0; p < width; p++)
    for (int i = 0; i < TILE; i++) to[p * TILE + i] = from[i * width + p];
#endif
}

// `columns`: [D / PER][64], edges side by side, for sums over coordinates. `steps`: for sums over edges. Rows of `vectors`
// past n are zeros.
template <class N>
class Queries;

template <>
class Queries<Float32> {
 public:
  Queries() : vectors_(TILE * D), columns_(TILE * D) {}
  bool ready() const { return vectors_.data && columns_.data; }
  float* vectors() { return vectors_.data; }
  void pack(int n) {
    clear(vectors() + n * D, (TILE - n) * D);
    transpose(units(vectors_), D, units(columns_));
  }
  const float* columns() const { return columns_.data; }
  const float* steps() const { return vectors_.data; }
  const float* unit() const { return nullptr; }

 private:
  Buffer vectors_, columns_;
};

template <>
class Queries<Int16> {
 public:
  Queries() : vectors_(TILE * D), columns_(TILE * D / 2), steps_(TILE * D / 2), unit_(TILE) {}
  bool ready() const { return vectors_.data && columns_.data && steps_.data && unit_.data; }
  float* vectors() { return vectors_.data; }
  void pack(int n) {
    alignas(64) int32_t two[2][D], pairs[TILE][D / 2];
    clear(vectors() + n * D, (TILE - n) * D);
    for (int i = 0; i < TILE; i += 2) {
      for (int h = 0; h < 2; h++) {
        unit_.data[i + h] = to_integers(vectors_.data + (i + h) * D, two[h]);
        narrow(two[h], pairs[i + h], D);
      }
      pair_across(two[0], two[1], units(steps_) + i / 2 * D);
    }
    transpose(&pairs[0][0], D / 2, units(columns_));
  }
  const int32_t* columns() const { return units(columns_); }
  const int32_t* steps() const { return units(steps_); }
  const float* unit() const { return unit_.data; }

 private:
  Buffer vectors_, columns_, steps_, unit_;
};

// From a block of E to slopes. `factor` is each edge's: what E is multiplied by. `by_candidate` is E weighted by the
// candidates' units and summed over the block, for each edge.
// `for_queries`: [count / PER][64], `query_unit` [64]; `for_candidates`: [count][64 / PER], `candidate_unit` [count].
template <class N>
class Slopes;

template <>
class Slopes<Float32> {
 public:
  bool ready() const { return true; }
  void pack(float* E, int count, int n, const float* factor, const float*, const float*, const float*) {
    for (int j = 0; j < count; j++)
      for (int i = 0; i < n; i += W) store(E + j * TILE + i, load(E + j * TILE + i) * load(factor + i));
    slopes_ = E;
  }
  const float* for_queries() const { return slopes_; }
  const float* for_candidates() const { return slopes_; }
  const float* query_unit() const { return nullptr; }
  const float* candidate_unit() const { return nullptr; }

 private:
  const float* slopes_ = nullptr;
};

template <>
class Slopes<Int16> {
 public:
  Slopes() : queries_(BLOCK / 2 * TILE), candidates_(BLOCK * TILE / 2) {}
  bool ready() const { return queries_.data && candidates_.data; }
  void pack(float* E, int count, int n, const float* factor, const float* by_candidate, const float* candidate_unit,
            const float* query_unit) {
    float scale[TILE], weighted[TILE];
    for (int i = 0; i < n; i += W) {
      const vf sum = load(by_candidate + i), f = load(factor + i);
      store(scale + i, choose(sum > vf{}, splat(LARGEST) / sum, vf{}));
      store(query_unit_ + i, f * sum * (1 / LARGEST));
      store(weighted + i, f * load(query_unit + i));
    }
    alignas(64) int32_t integers[TILE] = {};
    for (int j = 0; j < count; j += 2) {
      const bool both = j + 1 < count;
      const float *e0 = E + j * TILE, *e1 = e0 + (both ? TILE : 0);
      const float c0 = candidate_unit[j], c1 = both ? candidate_unit[j + 1] : 0;
      vf sum0 = {}, sum1 = {};
      for (int i = 0; i < n; i += W) {
        const vf s = load(scale + i), w = load(weighted + i), x0 = load(e0 + i), x1 = load(e1 + i);
        store(units(queries_) + j / 2 * TILE + i, pair(nearest(x0 * (s * c0)), nearest(x1 * (s * c1))));
        sum0 += x0 * w;
        sum1 += x1 * w;
      }
      const float totals[2] = {sum(sum0), sum(sum1)};
      for (int h = 0; h < 1 + both; h++) {
        const float factor_h = totals[h] > 0 ? LARGEST / totals[h] : 0;
        candidate_unit_[j + h] = totals[h] / LARGEST;
        const float* e = h ? e1 : e0;
        for (int i = 0; i < n; i += W) store(integers + i, nearest(load(e + i) * (load(weighted + i) * factor_h)));
        narrow(integers, units(candidates_) + (j + h) * (TILE / 2), TILE);
      }
    }
  }
  const int32_t* for_queries() const { return units(queries_); }
  const int32_t* for_candidates() const { return units(candidates_); }
  const float* query_unit() const { return query_unit_; }
  const float* candidate_unit() const { return candidate_unit_; }

 private:
  Buffer queries_, candidates_;
  float query_unit_[TILE] = {}, candidate_unit_[BLOCK] = {};
};

}  // namespace
