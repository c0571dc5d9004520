// Rows of tables: fetched ahead of time, updated by row-wise Adagrad.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "arithmetic.h"
#include "work.h"

namespace {

// Memory that the next chunk will read: fetched a few rows at a time between blocks of arithmetic, so that it works
// meanwhile.
class Ahead {
 public:
  void clear() { rows_.clear(), at_ = 0; }
  void add(const Table& table, int dim, const int32_t* ids, int64_t count) {
    for (int64_t k = 0; k < count; k++) add(table.vectors + (int64_t)ids[k] * dim, table.accumulator + ids[k]);
  }
  void add(const float* row, const float* state) { rows_.push_back({row, state}); }
  inline void step(int dim) {
    constexpr size_t ROWS = 3;
    for (const size_t end = std::min(at_ + ROWS, rows_.size()); at_ < end; at_++) {
      for (int p = 0; p < dim; p += 16) __builtin_prefetch(rows_[at_].row + p, 1, 2);
      __builtin_prefetch(rows_[at_].state, 1, 2);
    }
  }

 private:
  struct Row {
    const float *row, *state;
  };
  std::vector<Row> rows_;
  size_t at_ = 0;
};

// Gradients of the relation vectors that an update touches, side by side: there may be many relations, few at a time.
class RelationGradients {
 public:
  RelationGradients(int64_t vectors, int64_t most) : slot_(vectors, -1), sums_(std::min(vectors, most) * D) {}
  bool ready() const { return sums_.data; }
  float* of(const Work& work, int32_t r) {
    if (slot_[r] < 0) {
      slot_[r] = (int32_t)touched_.size();
      touched_.push_back(r);
      ::clear(sums_.data + (int64_t)slot_[r] * D, D);
      for (int p = 0; p < work.dim; p += 16) {  // for the update
        __builtin_prefetch(work.relations + (int64_t)r * work.dim + p, 1, 2);
        __builtin_prefetch(work.relation_accumulator + (int64_t)r * work.dim + p, 1, 2);
      }
    }
    return sums_.data + (int64_t)slot_[r] * D;
  }
  void apply(const Work& work) {
    for (size_t at = 0; at < touched_.size(); at++) {
      const float* __restrict g = sums_.data + at * D;
      float* __restrict theta = work.relations + (int64_t)touched_[at] * work.dim;
      float* __restrict state = work.relation_accumulator + (int64_t)touched_[at] * work.dim;
      for (int p = 0; p < work.dim; p++) {
        state[p] += g[p] * g[p];
        theta[p] -= work.relation_learning_rate * g[p] / (std::sqrt(state[p]) + 1e-10f);
      }
    }
    drop();
  }
  void drop() {
    for (int32_t r : touched_) slot_[r] = -1;
    touched_.clear();
  }

 private:
  std::vector<int32_t> slot_, touched_;
  Buffer sums_;
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
