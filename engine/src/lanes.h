// Several floats at once, for the instruction set that is being compiled: TWHIN_TARGET is its attribute, TWHIN_LANES its width.
// Included once for each set inside a namespace of its own. Only sums of products are fused, and only here.

typedef float Floats __attribute__((vector_size(4 * TWHIN_LANES)));
typedef std::int32_t Ints __attribute__((vector_size(4 * TWHIN_LANES)));
typedef std::uint32_t Words __attribute__((vector_size(4 * TWHIN_LANES)));
typedef float Quad __attribute__((vector_size(16), aligned(4)));

constexpr std::size_t kLanes = TWHIN_LANES;

#define TWHIN_INLINE TWHIN_TARGET inline __attribute__((always_inline))

TWHIN_INLINE Floats load(const float* from) {
  Floats value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

TWHIN_INLINE void store(float* to, Floats value) { std::memcpy(to, &value, sizeof value); }

TWHIN_INLINE Floats all(float value) { return value - Floats{}; }  // taking 0 away changes nothing, and costs nothing

TWHIN_INLINE Floats fused(Floats a, Floats b, Floats c) {  // a·b + c
#if TWHIN_LANES == 16
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif TWHIN_LANES == 8
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif TWHIN_ARM
  return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

TWHIN_INLINE Floats larger(Floats a, Floats b) {
#if TWHIN_LANES == 16
  return (Floats)_mm512_max_ps((__m512)a, (__m512)b);
#elif TWHIN_LANES == 8
  return (Floats)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}

TWHIN_INLINE Floats smaller(Floats a, Floats b) {
#if TWHIN_LANES == 16
  return (Floats)_mm512_min_ps((__m512)a, (__m512)b);
#elif TWHIN_LANES == 8
  return (Floats)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return a < b ? a : b;
#endif
}

TWHIN_INLINE Floats root(Floats a) {
#if TWHIN_LANES == 16
  return (Floats)_mm512_sqrt_ps((__m512)a);
#elif TWHIN_LANES == 8
  return (Floats)_mm256_sqrt_ps((__m256)a);
#else
  for (std::size_t i = 0; i < kLanes; ++i) a[i] = std::sqrt(a[i]);
  return a;
#endif
}

// e^x for x ≤ 0, to 2 units in the last place: x = n·ln 2 + r, e^r by its series, 2^n by the exponent's bits.
TWHIN_INLINE Floats exponential(Floats x) {
  constexpr float kRounding = 12582912.0f;  // 1.5·2^23: added and taken away, it leaves the nearest whole number
  x = larger(x, all(-87.0f));
  const Floats n = (x * 1.44269504f + kRounding) - kRounding;
  Floats r = fused(n, all(-0.693359375f), x);
  r = fused(n, all(2.12194440e-4f), r);
  Floats sum = all(1.0f / 5040);
  for (const float factor : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) sum = fused(sum, r, all(factor));
  const Ints scale = (__builtin_convertvector(n, Ints) + 127) << 23;
  return sum * (Floats)scale;
}

// ln x for positive normal x: x = 2^e·m with m in [√½, √2), ln(1 + (m − 1)) by the polynomial of Cephes' logf.
TWHIN_INLINE Floats logarithm(Floats x) {
  const Ints bits = (Ints)((Words)x - 0x3f3504f3u);  // so that the mantissa's range begins at √½; of any x, wrapping around
  const Floats e = __builtin_convertvector(bits >> 23, Floats);
  const Floats m = (Floats)((bits & 0x007fffff) + 0x3f3504f3) - 1.0f;
  Floats sum = all(7.0376836292e-2f);
  for (const float factor : {-1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f, -1.6668057665e-1f,
                             2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f})
    sum = fused(sum, m, all(factor));
  const Floats square = m * m;
  Floats rest = fused(e, all(-2.12194440e-4f), sum * m * square);
  rest = fused(square, all(-0.5f), rest);
  return fused(e, all(0.693359375f), m + rest);
}
