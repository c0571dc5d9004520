// Numbers of the training step: vector registers, exponentials and logarithms on them, random draws by counter.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#ifndef TWHIN_DIM
#error "compile with -DTWHIN_DIM=<padded dimension>"
#endif

namespace {

constexpr int D = TWHIN_DIM;
constexpr int TILE = 64;
#if defined(__AVX512F__)
constexpr int W = 16, MR = 14;
#elif defined(__AVX__)
constexpr int W = 8, MR = 6;
#elif defined(__aarch64__)
constexpr int W = 4, MR = 14;
#else
constexpr int W = 4, MR = 6;
#endif
static_assert(D % (2 * W) == 0, "the padded dimension must be a multiple of two registers");

typedef float vf __attribute__((vector_size(W * 4)));
typedef int32_t vi __attribute__((vector_size(W * 4)));
typedef float vfu __attribute__((vector_size(W * 4), aligned(4), may_alias));
typedef int32_t viu __attribute__((vector_size(W * 4), aligned(4), may_alias));

inline vf load(const float* p) { return *reinterpret_cast<const vfu*>(p); }
inline void store(float* p, vf v) { *reinterpret_cast<vfu*>(p) = v; }
inline vi load(const int32_t* p) { return *reinterpret_cast<const viu*>(p); }
inline void store(int32_t* p, vi v) { *reinterpret_cast<viu*>(p) = v; }
inline vf splat(float x) { return x - vf{}; }
inline vi splat(int32_t x) { return x - vi{}; }
inline vf choose(vi where, vf a, vf b) { return (vf)(((vi)a & where) | ((vi)b & ~where)); }

// By halves: as many steps as the logarithm of the lanes.
inline float sum(vf v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#else
  float lane[W];
  store(lane, v);
  for (int half = W / 2; half; half /= 2)
    for (int k = 0; k < half; k++) lane[k] += lane[k + half];
  return lane[0];
#endif
}

// e^x for x <= 0, by 2^n times a polynomial. Relative error about 2e-7; below e^-60 it is 0, because what is multiplied on
// would leave the range of normal floats, which costs a processor a hundred cycles a number.
inline vf exp_(vf x) {
  const vi none = x < splat(-60.0f);
  vf shifted = x * 1.44269504f + 12582912.0f;  // rounds to an integer in the low bits
  vf n = shifted - 12582912.0f;
  vf r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  vf p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  vi bits = ((vi)shifted << 23) + (vi)p;
  return (vf)(bits & ~none);
}

// log(1 + z) for z in [0, 1], by the series of 2 atanh(z / (2 + z)).
inline vf log1p_(vf z) {
  vf t = z / (z + 2.0f), q = t * t;
  vf p = q * (2.0f / 13) + 2.0f / 11;
  p = p * q + 2.0f / 9;
  p = p * q + 2.0f / 7;
  p = p * q + 2.0f / 5;
  p = p * q + 2.0f / 3;
  return (p * q + 2.0f) * t;
}

inline float dot(const float* a, const float* b) {
  vf total = {};
  for (int p = 0; p < D; p += W) total += load(a + p) * load(b + p);
  return sum(total);
}
inline void add(float* to, const float* from, float factor = 1) {
  for (int p = 0; p < D; p += W) store(to + p, load(to + p) + load(from + p) * factor);
}
inline void clear(float* to, int64_t count) { std::memset(to, 0, count * 4); }

// SplitMix64, as in `training/counter_rng.py`.
inline uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}
constexpr uint64_t GOLDEN = 0x9E3779B97F4A7C15ull;

inline uint64_t stream_seed(uint64_t seed, uint64_t position) {
  uint64_t state = mix(GOLDEN * (seed + 1));
  return mix(state + GOLDEN * (position + 1));
}
inline int32_t draw(uint64_t seed, uint64_t counter, uint64_t bound) {
  uint64_t bits = mix(seed + (counter + 1) * GOLDEN);
  return (int32_t)(((bits >> 32) * bound) >> 32);
}

// Zeros, or null.
float* aligned(size_t floats) {
  void* p = std::aligned_alloc(64, (floats * 4 + 63) / 64 * 64);
  if (p) std::memset(p, 0, (floats * 4 + 63) / 64 * 64);
  return static_cast<float*>(p);
}

struct Buffer {
  float* data;
  explicit Buffer(size_t floats) : data(aligned(floats)) {}
  ~Buffer() { std::free(data); }
  Buffer(const Buffer&) = delete;
};
// The same memory as integers: a Buffer holds either.
typedef int32_t aliased __attribute__((may_alias));
inline int32_t* units(const Buffer& buffer) { return reinterpret_cast<aliased*>(buffer.data); }

}  // namespace
