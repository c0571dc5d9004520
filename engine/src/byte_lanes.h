// Products of bytes, comparisons and packing, for the instruction set that is being compiled; goes with lanes.h, whose lanes are rows
// here, or lists. TWHIN_DOT: four products of bytes are added to an integer by one instruction.

typedef std::uint8_t Bytes __attribute__((vector_size(4 * TWHIN_LANES)));
typedef std::int8_t SignedBytes __attribute__((vector_size(4 * TWHIN_LANES)));
typedef std::int16_t Shorts __attribute__((vector_size(4 * TWHIN_LANES)));
typedef std::uint32_t Unsigned __attribute__((vector_size(4 * TWHIN_LANES)));

TWHIN_INLINE Bytes load(const std::uint8_t* from) {
  Bytes value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

TWHIN_INLINE Ints all(std::int32_t value) { return value - Ints{}; }
TWHIN_INLINE Floats real(Ints value) { return __builtin_convertvector(value, Floats); }

TWHIN_INLINE Ints ascending(std::size_t first) {
  Ints lanes;
  for (std::size_t i = 0; i < kLanes; ++i) lanes[i] = static_cast<std::int32_t>(i);
  return lanes + static_cast<std::int32_t>(first);
}

// Bytes as numbers of 16 bits, every other one, and the sums of neighbouring ones: without products of bytes.
TWHIN_INLINE Shorts even(Bytes codes) { return (Shorts)codes & 255; }
TWHIN_INLINE Shorts odd(Bytes codes) { return (Shorts)codes >> 8 & 255; }
TWHIN_INLINE Shorts even_signed(Ints word) { return (Shorts)word << 8 >> 8; }
TWHIN_INLINE Shorts odd_signed(Ints word) { return (Shorts)word >> 8; }
TWHIN_INLINE Ints pairs(Shorts values) { return ((Ints)values << 16 >> 16) + ((Ints)values >> 16); }

// What sums of `products` over so many words begin with.
TWHIN_INLINE Ints start([[maybe_unused]] const std::int32_t* query, [[maybe_unused]] std::size_t words) {
  Ints sums{};
#if TWHIN_ARM && TWHIN_DOT  // there bytes are signed: 128 less than they are, which is made good here
  const SignedBytes half = SignedBytes{} - 64;
  for (std::size_t q = 0; q < words; ++q) sums = (Ints)vdotq_s32((int32x4_t)sums, (int8x16_t)half, (int8x16_t)all(query[q]));
  sums *= -2;
#endif
  return sums;
}

// To each lane the sum of its four codes, of 0 to 255, times the four bytes of a query's word, of −127 to 127.
TWHIN_INLINE Ints products(Ints sums, Bytes codes, Ints word) {
#if TWHIN_LANES == 16
  return (Ints)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)codes, (__m512i)word);
#elif TWHIN_LANES == 8 && TWHIN_DOT
  return (Ints)_mm256_dpbusd_avx_epi32((__m256i)sums, (__m256i)codes, (__m256i)word);
#elif TWHIN_LANES == 8  // in 16 bits two products would not fit, so bytes are widened first
  const __m256i zero = _mm256_setzero_si256(), code = (__m256i)codes, query = (__m256i)word;
  const __m256i low = _mm256_madd_epi16(_mm256_unpacklo_epi8(code, zero), _mm256_srai_epi16(_mm256_unpacklo_epi8(zero, query), 8));
  const __m256i high = _mm256_madd_epi16(_mm256_unpackhi_epi8(code, zero), _mm256_srai_epi16(_mm256_unpackhi_epi8(zero, query), 8));
  return sums + (Ints)_mm256_hadd_epi32(low, high);  // sums of pairs of the lanes 0, 1 (4, 5), and of 2, 3 (6, 7)
#elif TWHIN_ARM && TWHIN_DOT
  return (Ints)vdotq_s32((int32x4_t)sums, (int8x16_t)(codes ^ 128), (int8x16_t)word);
#else
  return sums + pairs(even(codes) * even_signed(word)) + pairs(odd(codes) * odd_signed(word));  // 255 · 127 fits 16 bits
#endif
}

// To each lane the sum of the squares of its four codes, of −127 to 127.
TWHIN_INLINE Ints squares(Ints sums, SignedBytes codes) {
  const Bytes sign = (Bytes)(codes >> 7);
  const SignedBytes sizes = (SignedBytes)(((Bytes)codes ^ sign) - sign);  // unsigned: of -128, in a damaged file, there is no negative
#if TWHIN_ARM && TWHIN_DOT
  return (Ints)vdotq_s32((int32x4_t)sums, (int8x16_t)sizes, (int8x16_t)sizes);
#else
  return products(sums, (Bytes)sizes, (Ints)sizes);
#endif
}

struct Halves {  // sums over the low and over the high halves of bytes
  Ints low, high;
};

TWHIN_INLINE void add_halves(Halves& sums, Bytes codes, Ints low_word, Ints high_word) {
#if TWHIN_X86 && TWHIN_DOT  // the high half stays where it is and counts sixteenfold until the end
  sums.low = products(sums.low, codes & 15, low_word);
  sums.high = products(sums.high, codes & 240, high_word);
#elif TWHIN_LANES == 8  // in 16 bits four products do fit: 4 · 15 · 127
  const __m256i low = _mm256_maddubs_epi16((__m256i)(codes & 15), (__m256i)low_word);
  const __m256i high = _mm256_maddubs_epi16((__m256i)(codes >> 4), (__m256i)high_word);
  sums.low += (Ints)_mm256_madd_epi16(_mm256_add_epi16(low, high), _mm256_set1_epi16(1));
#elif TWHIN_ARM && TWHIN_DOT
  sums.low = (Ints)vdotq_s32((int32x4_t)sums.low, (int8x16_t)(codes & 15), (int8x16_t)low_word);
  sums.high = (Ints)vdotq_s32((int32x4_t)sums.high, (int8x16_t)(codes >> 4), (int8x16_t)high_word);
#else
  const Bytes low = codes & 15, high = codes >> 4;
  sums.low += pairs(even(low) * even_signed(low_word) + odd(low) * odd_signed(low_word) + even(high) * even_signed(high_word) +
                    odd(high) * odd_signed(high_word));
#endif
}

TWHIN_INLINE Ints sum_of(const Halves& sums) {
#if TWHIN_X86 && TWHIN_DOT
  return sums.low + (sums.high >> 4);
#else
  return sums.low + sums.high;
#endif
}

// A bit for each lane that a comparison has found true.
TWHIN_INLINE unsigned bits_of(Ints found) {
#if TWHIN_LANES == 16
  return _mm512_movepi32_mask((__m512i)found);
#elif TWHIN_LANES == 8
  return static_cast<unsigned>(_mm256_movemask_ps((__m256)found));
#elif TWHIN_ARM
  return vaddvq_u32((uint32x4_t)(found & Ints{1, 2, 4, 8}));
#else
  found &= Ints{1, 2, 4, 8};
  return static_cast<unsigned>(found[0] | found[1] | found[2] | found[3]);
#endif
}

TWHIN_INLINE unsigned first_lanes(std::size_t n) { return n >= kLanes ? (1U << kLanes) - 1 : (1U << n) - 1; }

// Writes the lanes whose bits are set, one after the other; up to a whole vector is written. Returns how many they are.
template <class Vector, class T>
TWHIN_INLINE std::size_t pack(unsigned lanes, Vector values, T* to) {
#if TWHIN_LANES == 16  // into a register and then all of it: a compressing store is slow on some processors
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(static_cast<__mmask16>(lanes), (__m512i)values));
  return static_cast<std::size_t>(__builtin_popcount(lanes));
#else
  T all[kLanes];
  std::memcpy(all, &values, sizeof all);
  std::size_t n = 0;
  for (; lanes != 0; lanes &= lanes - 1) to[n++] = all[__builtin_ctz(lanes)];
  return n;
#endif
}
