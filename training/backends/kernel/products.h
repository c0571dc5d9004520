// The three matrix products of a chunk, for a compile-time dimension:
//   scores  E[j][i] = C_j . Q_i + bias_i       candidates by rows, edges by columns, so that a softmax runs down columns
//   queries dQ_i    = sum_j E[j][i] C_j
//   cand.   dC_j    = sum_i E[j][i] Q_i
// All are blocks of MR rows by two vector registers held in accumulators; edges go in tiles of 64.
//
// Why blocks: a product of two vectors loads two numbers for each multiplication, and the loads would set the pace. In a
// block of MR x 2W every loaded pair of registers serves MR rows and every number of A serves 2W columns. MR is the most
// for which accumulators, the pair and the broadcast number fit the register file: 14 x 2 + 2 + 1 of 32 registers, or
// 6 x 2 + 2 + 1 of 16. M is a template argument so that the accumulators are registers and the loops over m unroll.

#pragma once

#include <algorithm>
#include <cstdint>

#include "arithmetic.h"

namespace {

// E[m][0:2W] = sum_p A[m][p] Bt[p][0:2W]: M candidates against 2W edges.
template <int M>
inline void score_block(const float* A, const float* Bt, float* E) {
  vf acc[M][2] = {};
  for (int p = 0; p < D; p++) {
    vf b0 = load(Bt + p * TILE), b1 = load(Bt + p * TILE + W);
    for (int m = 0; m < M; m++) {
      vf a = splat(A[m * D + p]);
      acc[m][0] += a * b0;
      acc[m][1] += a * b1;
    }
  }
  for (int m = 0; m < M; m++) {
    store(E + m * TILE, acc[m][0]);
    store(E + m * TILE + W, acc[m][1]);
  }
}

// out[m][0:2W] = sum_j E[j][m] C[j][0:2W]: M edges against 2W coordinates, over all candidates.
template <int M>
inline void query_block(const float* E, const float* C, int64_t k, float* out) {
  vf acc[M][2] = {};
  for (int64_t j = 0; j < k; j++) {
    vf b0 = load(C + j * D), b1 = load(C + j * D + W);
    for (int m = 0; m < M; m++) {
      vf a = splat(E[j * TILE + m]);
      acc[m][0] += a * b0;
      acc[m][1] += a * b1;
    }
  }
  for (int m = 0; m < M; m++) {
    store(out + m * D, acc[m][0]);
    store(out + m * D + W, acc[m][1]);
  }
}

// out[m][0:2W] = sum_i E[m][i] Q[i][0:2W]: M candidates against 2W coordinates, over the tile's edges; MORE adds it instead.
template <int M, bool MORE>
inline void candidate_block(const float* E, const float* Q, int b, float* out) {
  vf acc[M][2] = {};
  if constexpr (MORE)
    for (int m = 0; m < M; m++) {
      acc[m][0] = load(out + m * D);
      acc[m][1] = load(out + m * D + W);
    }
  for (int i = 0; i < b; i++) {
    vf b0 = load(Q + i * D), b1 = load(Q + i * D + W);
    for (int m = 0; m < M; m++) {
      vf a = splat(E[m * TILE + i]);
      acc[m][0] += a * b0;
      acc[m][1] += a * b1;
    }
  }
  for (int m = 0; m < M; m++) {
    store(out + m * D, acc[m][0]);
    store(out + m * D + W, acc[m][1]);
  }
}

enum Product { SCORE, QUERY, CANDIDATE, MORE_CANDIDATE };

template <Product P, int M>
inline void block(const float* A, const float* B, int64_t count, float* out) {
  if constexpr (P == SCORE) score_block<M>(A, B, out);
  if constexpr (P == QUERY) query_block<M>(A, B, count, out);
  if constexpr (P == CANDIDATE) candidate_block<M, false>(A, B, (int)count, out);
  if constexpr (P == MORE_CANDIDATE) candidate_block<M, true>(A, B, (int)count, out);
}

// The block for `m` rows, m <= MR, chosen at run time.
template <Product P, int M = MR>
inline void rows(int m, const float* A, const float* B, int64_t count, float* out) {
  if (m == M) return block<P, M>(A, B, count, out);
  if constexpr (M > 1) rows<P, M - 1>(m, A, B, count, out);
}

template <class Between>
void score(const float* C, int64_t k, const float* Qt, float* E, Between between) {
  for (int i = 0; i < TILE; i += 2 * W)
    for (int64_t j = 0; j < k; j += MR) {
      rows<SCORE>((int)std::min<int64_t>(MR, k - j), C + j * D, Qt + i, 0, E + j * TILE + i);
      between();
    }
}

// The edges are split evenly (18 as 9 + 9, not 14 + 4): a short one reads as much of C for less work.
template <class Between>
void query_gradient(const float* E, const float* C, int64_t k, int b, float* out, Between between) {
  const int blocks = (b + MR - 1) / MR, size = (b + blocks - 1) / blocks;
  for (int c = 0; c < D; c += 2 * W)
    for (int i = 0; i < b; i += size) {
      rows<QUERY>(std::min(size, b - i), E + i, C + c, k, out + i * D + c);
      between();
    }
}

template <Product P, class Between>
void candidate_gradient(const float* E, const float* Q, int64_t k, int b, float* out, Between between) {
  for (int64_t j = 0; j < k; j += MR)
    for (int c = 0; c < D; c += 2 * W) {
      rows<P>((int)std::min<int64_t>(MR, k - j), E + j * TILE, Q + c, b, out + j * D + c);
      between();
    }
}

// Scores run down candidates with edges in the columns, so a block loads 2W neighbouring edges of one coordinate: queries
// are turned round once a tile, 64 x D moves against 64 x D x k multiplications.
void transpose(const float* Q, int b, float* Qt) {  // Qt[p][i] = Q[i][p]; columns past b are zero
  for (int i = 0; i < b; i++)
    for (int p = 0; p < D; p++) Qt[p * TILE + i] = Q[i * D + p];
  for (int p = 0; p < D; p++)
    for (int i = b; i < TILE; i++) Qt[p * TILE + i] = 0;
}

}  // namespace
