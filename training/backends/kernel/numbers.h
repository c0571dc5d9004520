// The numbers that are multiplied: floats, or int16 in pairs with sums of 32 bits, of which a processor with VNNI makes
// twice as many a cycle. Tables, scores, slopes and sums over blocks stay float32 in both.
//
// A sum of int16 products must not overflow 32 bits. In scores each vector is scaled to a length of 32,767: by Cauchy and
// Schwarz no product of two of them exceeds 2^30, and a coordinate keeps 11 to 15 bits. In gradients the slopes of one sum
// are scaled to add up to 32,767, and no coordinate exceeds 32,767: again at most 2^30. Slopes of one sum thus share 15
// bits, which is why sums go over blocks of candidates (step.h) and not over all. bfloat16 has 8 bits in either.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "arithmetic.h"

#ifndef TWHIN_INT16
#define TWHIN_INT16 -1
#endif
#if defined(__AVX512VNNI__) || (defined(__AVXVNNI__) && !defined(__AVX512F__))
#define TWHIN_VNNI 1
#else
#define TWHIN_VNNI 0
#endif

namespace {

constexpr float LARGEST = 32767.0f;

struct Float32 {
  using unit = float;
  using vector = vf;
  static constexpr int PER = 1;
  static constexpr bool SCALED = false;
  static inline vf multiply_add(vf sum, vf a, vf b) { return sum + a * b; }
  static inline vf real(vf sum) { return sum; }
};

struct Int16 {
  using unit = int32_t;  // two numbers: the first in the low half
  using vector = vi;
  static constexpr int PER = 2;
  static constexpr bool SCALED = true;
  static inline vi multiply_add(vi sum, vi a, vi b) {
#if defined(__AVX512VNNI__)
    return (vi)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(__AVX512BW__)
    return sum + (vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX512F__)
    return sum + ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#elif defined(__AVXVNNI__) && defined(__AVX2__)
    return (vi)_mm256_dpwssd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
#elif defined(__AVX2__)
    return sum + (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
    return sum + ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
  }
  static inline vf real(vi sum) { return __builtin_convertvector(sum, vf); }
};

// To the nearest integer, by the float that has it in its low bits; for |x| < 2^22.
inline vi nearest(vf x) { return (vi)(x + 12582912.0f) - 0x4B400000; }
inline vi pair(vi low, vi high) { return (low & 0xffff) | (high << 16); }

// A vector as int16 of length 32,767 into `to`, one for each int32; returns what 1 is worth.
inline float to_integers(const float* vector, int32_t* to) {
  const float length = std::sqrt(dot(vector, vector));
  const float factor = length > 0 ? LARGEST / length : 0;
  for (int p = 0; p < D; p += W) store(to + p, nearest(load(vector + p) * factor));
  return length / LARGEST;
}

// The low halves of neighbouring integers, which make a pair of two that stand beside each other.
inline void narrow(const int32_t* from, int32_t* to, int count) {
  typedef int16_t half __attribute__((may_alias));
  half* out = reinterpret_cast<half*>(to);
  for (int p = 0; p < count; p++) out[p] = (half)from[p];
}

// The same coordinate of two vectors into pairs, for sums over vectors.
inline void pair_across(const int32_t* first, const int32_t* second, int32_t* to) {
  for (int p = 0; p < D; p += W) store(to + p, pair(load(first + p), load(second + p)));
}

}  // namespace
