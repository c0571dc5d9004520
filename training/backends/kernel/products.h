// The three matrix products of a chunk, for a compile-time dimension and one of two kinds of numbers (numbers.h):
//   scores  E[j][i]  = C_j . Q_i            candidates by rows, edges by columns, so that a softmax runs down columns
//   queries dQ_i    += sum_j P[j][i] C_j
//   cand.   dC_j    += sum_i P[j][i] Q_i    or = for a chunk's first tile
// All are blocks of MR rows by two vector registers held in accumulators; edges go in tiles of 64.
//
// Why blocks: a product of two vectors loads two numbers for each multiplication, and the loads would set the pace. In a
// block of MR x 2W every loaded pair of registers serves MR rows and every number of A serves 2W columns. MR is the most
// for which accumulators, the pair and the broadcast number fit the register file: 14 x 2 + 2 + 1 of 32 registers, or
// 6 x 2 + 2 + 1 of 16. M is a template argument so that the accumulators are registers and the loops over m unroll.
//
// A step multiplies N::PER neighbouring numbers of the sum at once: one float, or the two int16 of 32 bits.

#pragma once

#include <algorithm>
#include <cstdint>

#include "arithmetic.h"

namespace {

// Accumulators of M rows by 2W columns: the sum over `steps` of A[m][step] * B[step][0:2W]. `row` and `step` are the
// strides of A, `wide` that of B.
template <class N, int M>
struct Block {
  using V = typename N::vector;
  V acc[M][2] = {};
  inline void add(const typename N::unit* A, int64_t row, int64_t step, const typename N::unit* B, int64_t wide, int64_t steps) {
    for (int64_t s = 0; s < steps; s++) {
      const V b0 = load(B + s * wide), b1 = load(B + s * wide + W);
      for (int m = 0; m < M; m++) {
        const V a = splat(A[m * row + s * step]);
        acc[m][0] = N::multiply_add(acc[m][0], a, b0);
        acc[m][1] = N::multiply_add(acc[m][1], a, b1);
      }
    }
  }
};

template <class N, int M>
inline void score_block(const typename N::unit* C, const float* c_unit, const typename N::unit* Qt, const float* q_unit, float* E) {
  Block<N, M> block;
  block.add(C, D / N::PER, 1, Qt, TILE, D / N::PER);
  for (int m = 0; m < M; m++)
    for (int h = 0; h < 2; h++) {
      vf e = N::real(block.acc[m][h]);
      if constexpr (N::SCALED) e *= load(q_unit + h * W) * c_unit[m];
      store(E + m * TILE + h * W, e);
    }
}

// `unit[m]`: what 1 of row m's sum is worth.
template <class N, int M, bool MORE>
inline void gradient_block(const typename N::unit* A, int64_t row, int64_t step, const typename N::unit* B, int64_t steps,
                           const float* unit, float* out) {
  Block<N, M> block;
  block.add(A, row, step, B, D, steps);
  for (int m = 0; m < M; m++)
    for (int h = 0; h < 2; h++) {
      float* to = out + m * D + h * W;
      vf sum = N::real(block.acc[m][h]);
      if constexpr (N::SCALED) sum *= unit[m];
      store(to, MORE ? load(to) + sum : sum);
    }
}

// Calls f(integral constant m) for the number of rows m, 1 <= m <= MR, that is known at run time.
template <int M>
struct Rows {
  static constexpr int value = M;
};
template <int M = MR, class F>
inline void with_rows(int m, F f) {
  if (m == M) return f(Rows<M>());
  if constexpr (M > 1) with_rows<M - 1>(m, f);
}

// Rows go in blocks of even size (18 as 9 + 9, not 14 + 4): a short one loads as much of B for less work.
template <class F>
inline void by_blocks(int64_t count, F f) {
  const int64_t blocks = (count + MR - 1) / MR, size = blocks ? (count + blocks - 1) / blocks : 0;
  for (int64_t from = 0; from < count; from += size) with_rows((int)std::min(size, count - from), [&](auto m) { f(m, from); });
}

// Scores of `k` candidates against a tile of b edges; columns past b are not to be read.
template <class N, class Between>
void score(const typename N::unit* C, const float* c_unit, int64_t k, const typename N::unit* Qt, const float* q_unit, int b,
           float* E, Between between) {
  for (int i = 0; i < b; i += 2 * W)
    by_blocks(k, [&](auto m, int64_t j) {
      score_block<N, m.value>(C + j * (D / N::PER), c_unit + j, Qt + i, q_unit + i, E + j * TILE + i);
      between();
    });
}

template <class N, class Between>
void query_gradient(const typename N::unit* P, const typename N::unit* C, int64_t steps, int b, const float* unit, float* dQ,
                    Between between) {
  for (int c = 0; c < D; c += 2 * W)
    by_blocks(b, [&](auto m, int64_t i) {
      gradient_block<N, m.value, true>(P + i, 1, TILE, C + c, steps, unit + i, dQ + i * D + c);
      between();
    });
}

template <class N, bool MORE, class Between>
void candidate_gradient(const typename N::unit* P, int64_t k, const typename N::unit* Q, int64_t steps, const float* unit,
                        float* dC, Between between) {
  for (int c = 0; c < D; c += 2 * W)
    by_blocks(k, [&](auto m, int64_t j) {
      gradient_block<N, m.value, MORE>(P + j * (TILE / N::PER), TILE / N::PER, 1, Q + c, steps, unit + j, dC + j * D + c);
      between();
    });
}

}  // namespace
