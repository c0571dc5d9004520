// True pairs, which are no negatives: the neighbour lists of a chunk's edges, and which candidates are in one.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <unordered_map>
#include <vector>

#include "arithmetic.h"
#include "work.h"

namespace {

// Neighbours of many rows from one end: those of row v are neighbour[offsets[v]:offsets[v + 1]], sorted by relation.
struct Neighbours {
  const int64_t* offsets;
  const int32_t *neighbour, *relation;
};

// Where the neighbours of a chunk's rows under their edges' relations stand.
class Lists {
 public:
  explicit Lists(int64_t most) : ends_(2 * most) {}
  // All searches take a step at a time together, so that their cache misses overlap. `place`: of each edge itself among
  // the neighbours, or null; its list lies around it and most are short.
  void find(const Neighbours& of, const int32_t* rows, const int32_t* relations, const int32_t* place, int n, bool one_relation) {
    bool more = false;
    for (int i = 0; i < n; i++) {
      int64_t from = of.offsets[rows[i]], to = of.offsets[rows[i] + 1];
      if (one_relation) {
        ends_[2 * i] = {from, 0, 0}, ends_[2 * i + 1] = {to, 0, 0};
        continue;
      }
      int64_t last = to;
      if (place) {
        int64_t step = 1, at = place[i];
        while (at - step >= from && of.relation[at - step] == relations[i]) step *= 2;
        from = std::max(from, at - step + 1);
        for (step = 1; at + step < to && of.relation[at + step] == relations[i];) step *= 2;
        last = std::min(to, at + step);
        to = at;
      }
      ends_[2 * i] = {from, to - from, relations[i]};
      const int64_t first = place ? place[i] + 1 : from;
      ends_[2 * i + 1] = {first, last - first, relations[i] + 1};
      more = true;
    }
    while (more) {  // the first place whose relation is not below `least` is in [at, at + length]
      more = false;
      for (int e = 0; e < 2 * n; e++) {
        End& end = ends_[e];
        if (end.length == 0) continue;
        const int64_t half = (end.length + 1) / 2;
        end.at += of.relation[end.at + half - 1] < end.least ? half : 0;
        end.length -= half;
        more |= end.length > 0;
      }
    }
  }
  void fetch(const Neighbours& of, int n) const {
    constexpr int64_t LINES = 4;
    for (int i = 0; i < n; i++)
      for (int64_t line = 0; line < LINES && ends_[2 * i].at + line * 16 < ends_[2 * i + 1].at; line++)
        __builtin_prefetch(of.neighbour + ends_[2 * i].at + line * 16, 0, 2);
  }
  int64_t from(int i) const { return ends_[2 * i].at; }
  int64_t count(int i) const { return ends_[2 * i + 1].at - ends_[2 * i].at; }

 private:
  struct End {
    int64_t at, length;
    int32_t least;
  };
  std::vector<End> ends_;
};

// Long lists as bits, made when they are first met: a few lists have most of all entries, and to look a chunk's candidates
// up takes less than to read them. Bits of a list that has a 32nd of all rows take no more room than its numbers.
class Bits {
 public:
  // Of a list whose entries are below `rows`; null where reading it is as well for `candidates` of them.
  const uint64_t* of(const int32_t* list, int64_t count, int64_t rows, int64_t candidates) {
    if (count < 2 * candidates || 32 * count < rows) return nullptr;
    const auto made = made_.find(list);
    if (made != made_.end()) return made->second.data();
    if (held_ + rows / 8 > MOST) return nullptr;
    held_ += rows / 8;
    std::vector<uint64_t>& bits = made_[list];
    bits.resize(rows / 64 + 1);
    for (int64_t e = 0; e < count; e++) bits[list[e] >> 6] |= 1ull << (list[e] & 63);
    return bits.data();
  }

 private:
  static constexpr int64_t MOST = 1 << 20;  // bytes: more would not stay in the cache (`training/memory.py` counts them)
  int64_t held_ = 0;
  std::unordered_map<const int32_t*, std::vector<uint64_t>> made_;
};

// Columns of a candidate list by row: filters of bits, then a chained hash table, so that scanning a long neighbour list
// is cheap. Rows are dense numbers, so their low bits serve as the hash.
class Columns {
 public:
  explicit Columns(int64_t most) : next_(most), filter_(1 << (FILTER - 5), 0) {
    while ((1 << bits_) < 2 * most) bits_++;
    head_.assign(1 << bits_, -1);
  }
  void set(const int32_t* ids, int64_t count) {
    ids_ = ids;
    count_ = count;
    std::memset(small_, 0, sizeof small_);
    for (int64_t j = count - 1; j >= 0; j--) {
      small_[ids[j] >> 5 & 31] |= 1u << (ids[j] & 31);
      filter_[word(ids[j])] |= 1u << (ids[j] & 31);
      next_[j] = head_[place(ids[j])];
      head_[place(ids[j])] = (int32_t)j;
    }
  }
  void clear() {
    for (int64_t j = 0; j < count_; j++) filter_[word(ids_[j])] = 0, head_[place(ids_[j])] = -1;
  }
  // Visit every column whose id is among the bits.
  template <class F>
  void among(const uint64_t* bits, F visit) const {
    for (int64_t from = 0; from < count_; from += 64) {
      uint64_t found = 0;
      for (int64_t j = std::min(count_, from + 64) - 1; j >= from; j--) found = found << 1 | (bits[ids_[j] >> 6] >> (ids_[j] & 63) & 1);
      for (; found; found &= found - 1) visit((int32_t)from + __builtin_ctzll(found));
    }
  }
  // Visit every column of every id in the list.
  template <class F>
  void each(const int32_t* list, int64_t count, F visit) const {
    int64_t e = 0;
#if defined(__AVX512F__)
    // Sixteen look-ups at once: of few candidates in 1,024 bits that lie in two registers, else in 16 KiB.
    const __m512i words = _mm512_set1_epi32((1 << (FILTER - 5)) - 1), unit = _mm512_set1_epi32(1);
    const __m512i low = _mm512_loadu_si512(small_), high = _mm512_loadu_si512(small_ + 16);
    const bool few = count_ <= FEW;
    for (; e + 16 <= count; e += 16) {
      const __m512i id = _mm512_loadu_si512(list + e), at = _mm512_srli_epi32(id, 5);
      const __m512i found = few ? _mm512_permutex2var_epi32(low, at, high)
                                : _mm512_i32gather_epi32(_mm512_and_si512(at, words), filter_.data(), 4);
      __mmask16 hits = _mm512_test_epi32_mask(_mm512_rorv_epi32(found, id), unit);
      for (; hits; hits &= hits - 1) one(list[e + __builtin_ctz(hits)], visit);
    }
#endif
    for (; e < count; e++) one(list[e], visit);
  }

 private:
  static constexpr int FILTER = 17, FEW = 192;
  static uint32_t word(int32_t id) { return ((uint32_t)id >> 5) & ((1u << (FILTER - 5)) - 1); }
  uint32_t place(int32_t id) const { return (uint32_t)id & ((1u << bits_) - 1); }
  template <class F>
  void one(int32_t id, F visit) const {
    if (!(filter_[word(id)] >> (id & 31) & 1)) return;
    for (int32_t j = head_[place(id)]; j >= 0; j = next_[j])
      if (ids_[j] == id) visit(j);
  }
  int bits_ = 6;
  const int32_t* ids_ = nullptr;
  int64_t count_ = 0;
  uint32_t small_[32] = {};
  std::vector<int32_t> head_, next_;
  std::vector<uint32_t> filter_;
};

}  // namespace
