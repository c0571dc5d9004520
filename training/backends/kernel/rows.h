// Rows of tables: fetched ahead of time, gathered, looked up among candidates, updated by row-wise Adagrad.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "arithmetic.h"
#include "work.h"

namespace {

// Rows that the next chunk will read: fetched a few at a time between blocks of arithmetic, so that memory works meanwhile.
class Ahead {
 public:
  void clear() { rows_.clear(), at_ = 0; }
  void add(const Table& table, const int32_t* ids, int64_t count) {
    for (int64_t k = 0; k < count; k++) rows_.push_back({&table, ids[k]});
  }
  inline void step(int dim) {
    constexpr size_t ROWS = 3;
    for (const size_t end = std::min(at_ + ROWS, rows_.size()); at_ < end; at_++) {
      const Row& row = rows_[at_];
      const char* vector = reinterpret_cast<const char*>(row.table->vectors + (int64_t)row.id * dim);
      for (int byte = 0; byte < dim * 4; byte += 64) __builtin_prefetch(vector + byte, 1, 2);
      __builtin_prefetch(row.table->accumulator + row.id, 1, 2);
    }
  }

 private:
  struct Row {
    const Table* table;
    int32_t id;
  };
  std::vector<Row> rows_;
  size_t at_ = 0;
};

void gather(const float* table, int dim, const int32_t* ids, int64_t count, float* out) {
  for (int64_t k = 0; k < count; k++) std::memcpy(out + k * D, table + (int64_t)ids[k] * dim, dim * 4);
}

// Columns of a candidate list by row: a filter of bits, then a chained hash table, so that scanning a long neighbour list
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
    for (int64_t j = count - 1; j >= 0; j--) {
      filter_[word(ids[j])] |= 1u << (ids[j] & 31);
      next_[j] = head_[place(ids[j])];
      head_[place(ids[j])] = (int32_t)j;
    }
  }
  void clear() {
    for (int64_t j = 0; j < count_; j++) filter_[word(ids_[j])] = 0, head_[place(ids_[j])] = -1;
  }
  // Visit every column of every id in the list.
  template <class F>
  void each(const int32_t* list, int64_t count, F visit) const {
    int64_t e = 0;
#if defined(__AVX512F__)
    const __m512i words = _mm512_set1_epi32((1 << (FILTER - 5)) - 1), low = _mm512_set1_epi32(31), unit = _mm512_set1_epi32(1);
    for (; e + 16 <= count; e += 16) {  // sixteen look-ups at once
      const __m512i id = _mm512_loadu_si512(list + e);
      const __m512i found = _mm512_i32gather_epi32(_mm512_and_si512(_mm512_srli_epi32(id, 5), words), filter_.data(), 4);
      __mmask16 hits = _mm512_test_epi32_mask(_mm512_srlv_epi32(found, _mm512_and_si512(id, low)), unit);
      for (; hits; hits &= hits - 1) one(list[e + __builtin_ctz(hits)], visit);
    }
#endif
    for (; e < count; e++) one(list[e], visit);
  }

 private:
  static constexpr int FILTER = 17;
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
  std::vector<int32_t> head_, next_;
  std::vector<uint32_t> filter_;
};

// The gradient rows of one update, added up by (table, row).
class Gradients {
 public:
  explicit Gradients(int64_t most) {
    while ((1ll << bits_) < 2 * most) bits_++;
    place_.assign(1ll << bits_, -1);
    entries_.reserve(most);
  }
  void put(int32_t table, const int32_t* ids, int64_t count, float* gradient) {
    for (int64_t k = 0; k < count; k++) put(table, ids[k], gradient + k * D);
  }
  void apply(const Work& work) {
    constexpr size_t AHEAD = 6;
    for (size_t k = 0; k < entries_.size(); k++) {
      if (k + AHEAD < entries_.size()) fetch(work, entries_[k + AHEAD]);
      update(work, entries_[k]);
      place_[entries_[k].place] = -1;
    }
    entries_.clear();
  }
  void drop() {
    for (Entry& e : entries_) place_[e.place] = -1;
    entries_.clear();
  }

 private:
  struct Entry {
    uint64_t key;
    float* gradient;
    int64_t place;
  };
  void put(int32_t table, int32_t id, float* gradient) {
    uint64_t key = ((uint64_t)(uint32_t)table << 32) | (uint32_t)id;
    uint64_t mask = (1ull << bits_) - 1, at = (key * GOLDEN) >> (64 - bits_);
    while (place_[at] >= 0) {
      Entry& e = entries_[place_[at]];
      if (e.key == key) return add(e.gradient, gradient);
      at = (at + 1) & mask;
    }
    place_[at] = (int32_t)entries_.size();
    entries_.push_back({key, gradient, (int64_t)at});
  }
  static void fetch(const Work& work, const Entry& e) {
    const Table& table = work.tables[e.key >> 32];
    const char* row = reinterpret_cast<const char*>(table.vectors + (int64_t)(e.key & 0xffffffffu) * work.dim);
    for (int byte = 0; byte < work.dim * 4; byte += 64) __builtin_prefetch(row + byte, 1, 3);
  }
  static void update(const Work& work, const Entry& e) {
    const Table& table = work.tables[e.key >> 32];
    const int64_t row = (int64_t)(e.key & 0xffffffffu), dim = work.dim;
    float* theta = table.vectors + row * dim;
    float* g = e.gradient;
    if (table.previous) {
      const float* old = table.previous + row * dim;
      for (int p = 0; p < dim; p++) g[p] += 2 * work.l2_previous * (theta[p] - old[p]);
    }
    if (work.l2 != 0)
      for (int p = 0; p < dim; p++) g[p] += 2 * work.l2 * theta[p];
    const float state = table.accumulator[row] += dot(g, g) / dim;
    const float step = work.learning_rate / (std::sqrt(state) + 1e-10f);
    int p = 0;
    for (; p + W <= dim; p += W) store(theta + p, load(theta + p) - load(g + p) * step);
    for (; p < dim; p++) theta[p] -= g[p] * step;
  }
  int bits_ = 6;
  std::vector<int32_t> place_;
  std::vector<Entry> entries_;
};

}  // namespace
