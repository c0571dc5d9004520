// From scores to slopes, a block of candidates at a time: lanes of a register are edges and candidates the loop, so that no
// sum across lanes is needed.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "arithmetic.h"

namespace {

// The sums of a tile. A block's E, once `block` has seen it, times `factor` is the derivative of the tile's loss by its
// scores. `n` is the number of edges in whole registers.
struct TileSums {
  float weight[TILE], positive[TILE], bias[TILE];
  float slope[TILE], total[TILE];  // of the loss by the positive's score; by all negatives' scores together
  double loss = 0;
};

// A softmax in one pass over the blocks: exponentials are of differences from the largest score so far, so none overflows,
// and sums of the blocks before are brought down when a larger one comes (as in FlashAttention, Dao et al. 2022).
class Softmax {
 public:
  explicit Softmax(int64_t blocks) : top_at_(blocks * TILE) {}
  bool ready() const { return top_at_.data; }
  void begin(const TileSums& tile, int n) {
    for (int i = 0; i < n; i += W) store(top_ + i, load(tile.positive + i)), store(others_ + i, vf{});
  }
  // `unit`: of each candidate, or null; `weighted` gets the sums of E weighted by them.
  void block(float* E, int64_t b, int count, const TileSums&, int n, const float* unit, float* weighted) {
    for (int i = 0; i < n; i += W) {
      vf before = load(top_ + i), top = before, others = {}, scaled = {};
      for (int j = 0; j < count; j++) {
        const vf e = load(E + j * TILE + i);
        top = choose(e > top, e, top);
      }
      for (int j = 0; j < count; j++) {
        const vf e = exp_(load(E + j * TILE + i) - top);
        store(E + j * TILE + i, e);
        others += e;
        if (unit) scaled += e * unit[j];
      }
      store(others_ + i, load(others_ + i) * exp_(before - top) + others);
      store(top_ + i, top);
      store(top_at_.data + b * TILE + i, top);
      store(weighted + i, scaled);
    }
  }
  void end(TileSums& tile, int n, int edges) {
    for (int i = 0; i < n; i += W) {
      const vf own = load(tile.positive + i), top = load(top_ + i), at_positive = exp_(own - top);
      const vf others = load(others_ + i), all = others + at_positive, weight = load(tile.weight + i), share = weight / all;
      store(share_ + i, share);
      store(tile.total + i, others * share);
      store(tile.slope + i, -(others * share));
      for (int c = 0; c < W && i + c < edges; c++)
        tile.loss += (double)weight[c] * (std::log((double)all[c]) + top[c] - own[c]);
    }
  }
  void factor(int64_t b, const TileSums&, int n, float* out) const {
    for (int i = 0; i < n; i += W)
      store(out + i, load(share_ + i) * exp_(load(top_at_.data + b * TILE + i) - load(top_ + i)));
  }

 private:
  Buffer top_at_;
  float top_[TILE], others_[TILE], share_[TILE];
};

// Eq. 2, half of the positive's term in each direction. E becomes sigma(score + bias).
class Logistic {
 public:
  explicit Logistic(int64_t) {}
  bool ready() const { return true; }
  void begin(const TileSums&, int n) {
    for (int i = 0; i < n; i += W) store(others_ + i, vf{}), store(loss_ + i, vf{});
  }
  void block(float* E, int64_t, int count, const TileSums& tile, int n, const float* unit, float* weighted) {
    for (int i = 0; i < n; i += W) {
      vf shift = load(tile.bias + i), others = load(others_ + i), loss = load(loss_ + i), scaled = {};
      for (int j = 0; j < count; j++) {
        vf x = load(E + j * TILE + i) + shift, z = exp_(choose(x > vf{}, -x, x));
        vf s = choose(x > vf{}, splat(1.0f), z) / (z + 1.0f);
        store(E + j * TILE + i, s);
        others += s;
        loss += choose(x > vf{}, x, vf{}) + log1p_(z);
        if (unit) scaled += s * unit[j];
      }
      store(others_ + i, others);
      store(loss_ + i, loss);
      store(weighted + i, scaled);
    }
  }
  void end(TileSums& tile, int n, int edges) {
    for (int i = 0; i < n; i += W) {
      vf x = load(tile.positive + i) + load(tile.bias + i), z = exp_(choose(x > vf{}, -x, x)), weight = load(tile.weight + i);
      vf miss = choose(x > vf{}, z, splat(1.0f)) / (z + 1.0f);
      store(tile.slope + i, miss * weight * -0.5f);
      store(tile.total + i, load(others_ + i) * weight);
      const vf loss = load(loss_ + i) + (choose(x > vf{}, vf{}, -x) + log1p_(z)) * 0.5f;
      for (int c = 0; c < W && i + c < edges; c++) tile.loss += (double)weight[c] * loss[c];
    }
  }
  void factor(int64_t, const TileSums& tile, int n, float* out) const {
    for (int i = 0; i < n; i += W) store(out + i, load(tile.weight + i));
  }

 private:
  float others_[TILE], loss_[TILE];
};

}  // namespace
