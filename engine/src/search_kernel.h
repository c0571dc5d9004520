// The inner loops of `ivf4` for one instruction set. All sets give the same bits: sums of integers are exact, and sums of floats are
// taken in sixteen lanes in one order, products rounded before they are added.

#include "byte_lanes.h"

constexpr std::size_t kParts = kGroup / kLanes;  // vectors to a group: rows of a block, lists side by side
constexpr std::size_t kWord = 4 * kLanes;        // bytes of a vector
// Sums that are made at once, so that none waits for its last product: they and what they are made of fit the registers.
constexpr std::size_t kRowsAtOnce = kLanes == 16 ? 8 : kLanes == 8 ? 4 : 2;
constexpr std::size_t kListsAtOnce = kLanes == 8 ? 2 : 4, kBlocksAtOnce = kLanes == 16 ? 2 : 1;

template <std::size_t N>
TWHIN_INLINE void map_columns(const float* query, Matrix<const float> map, std::size_t first, float* out) {
  Floats sums[N] = {};
  const float* row = map.data + first;
  for (std::size_t i = 0; i < map.rows; ++i, row += map.columns) {
    for (std::size_t j = 0; j < N; ++j) sums[j] += all(query[i]) * load(row + kLanes * j);
  }
  for (std::size_t j = 0; j < N; ++j) store(out + first + kLanes * j, sums[j]);
}

TWHIN_TARGET void map(const float* query, Matrix<const float> map, float* out) {
  std::size_t first = 0;
  for (; first + 8 * kLanes <= map.columns; first += 8 * kLanes) map_columns<8>(query, map, first, out);
  for (; first + 2 * kGroup <= map.columns; first += 2 * kGroup) map_columns<2 * kParts>(query, map, first, out);
  for (; first < map.columns; first += kGroup) map_columns<kParts>(query, map, first, out);
}

TWHIN_TARGET void coarse(const std::uint8_t* codes, std::size_t n_groups, std::size_t quads, const std::int32_t* query,
                         std::int32_t* sums) {
  const Ints begin = start(query, quads);
  for (std::size_t g = 0; g < n_groups; ++g, codes += quads * 64, sums += kGroup) {
    Ints even[kParts], odd[kParts] = {};
    for (Ints& sum : even) sum = begin;
    for (std::size_t q = 0; q + 1 < quads; q += 2) {
      for (std::size_t v = 0; v < kParts; ++v) {
        even[v] = products(even[v], load(codes + 64 * q + kWord * v), all(query[q]));
        odd[v] = products(odd[v], load(codes + 64 * q + 64 + kWord * v), all(query[q + 1]));
      }
    }
    for (std::size_t v = 0; v < kParts; ++v) {
      const Ints sum = even[v] + odd[v];
      std::memcpy(sums + kLanes * v, &sum, sizeof sum);
    }
  }
}

struct Leader {  // in each lane the best list of one row so far
  Floats score;
  Ints list;
};

// N vectors of lists from `first` on, for four rows.
template <std::size_t N>
TWHIN_INLINE void compare(const Nearest& among, std::size_t first, const std::int32_t* rows, const float* delta, Leader* leaders) {
  const std::size_t quads = among.quads;
  const std::uint8_t* codes[N];
  Ints sums[4][N];
  for (std::size_t v = 0; v < N; ++v) codes[v] = among.codes + (first + v) / kParts * quads * 64 + (first + v) % kParts * kWord;
  for (std::size_t r = 0; r < 4; ++r) {
    for (Ints& sum : sums[r]) sum = start(rows + r * quads, quads);
  }
  for (std::size_t q = 0; q < quads; ++q) {
    Bytes code[N];
    for (std::size_t v = 0; v < N; ++v) code[v] = load(codes[v] + 64 * q);
    for (std::size_t r = 0; r < 4; ++r) {
      const Ints word = all(rows[r * quads + q]);
      for (std::size_t v = 0; v < N; ++v) sums[r][v] = products(sums[r][v], code[v], word);
    }
  }
  for (std::size_t v = 0; v < N; ++v) {
    const Floats bias = load(among.bias + kLanes * (first + v));
    const Ints lists = ascending(kLanes * (first + v));
    for (std::size_t r = 0; r < 4; ++r) {
      const Floats score = real(sums[r][v]) * all(delta[r]) + bias;
      const Ints better = score > leaders[r].score;
      leaders[r].score = better ? score : leaders[r].score;
      leaders[r].list = better ? lists : leaders[r].list;
    }
  }
}

// The lists by pieces that stay in the first cache while all rows are compared with them.
TWHIN_TARGET void nearest(const Nearest& among, const std::int32_t* rows, const float* delta, std::size_t n, std::int32_t* best) {
  constexpr std::size_t kPiece = 16384;
  const std::size_t vectors = among.n_groups * kParts;
  const std::size_t piece = kListsAtOnce * std::max<std::size_t>(1, kPiece / (kListsAtOnce * kWord * among.quads));
  Leader leaders[kNearestRows];
  for (std::size_t r = 0; r < n; ++r) leaders[r] = {all(-std::numeric_limits<float>::infinity()), Ints{}};
  for (std::size_t first = 0; first < vectors; first += piece) {
    const std::size_t last = std::min(first + piece, vectors);
    for (std::size_t r = 0; r < n; r += 4) {
      const std::int32_t* const words = rows + r * among.quads;
      std::size_t v = first;
      for (; v + kListsAtOnce <= last; v += kListsAtOnce) compare<kListsAtOnce>(among, v, words, delta + r, leaders + r);
      for (; v < last; v += kParts) compare<kParts>(among, v, words, delta + r, leaders + r);
    }
  }
  for (std::size_t r = 0; r < n; ++r) {
    std::size_t top = 0;
    const Leader& leader = leaders[r];
    for (std::size_t i = 1; i < kLanes; ++i) {  // of equal lanes the lowest list
      const bool before = leader.score[i] == leader.score[top] && leader.list[i] < leader.list[top];
      top = leader.score[i] > leader.score[top] || before ? i : top;
    }
    best[r] = leader.list[top];
  }
}

TWHIN_INLINE std::size_t append(const Scan& scan, Ints sums, const std::uint8_t* ids, float* scores, std::uint32_t* rows) {
  const Floats score = real(sums) * all(scan.delta) + all(scan.base);
  const unsigned above = bits_of(score > all(scan.threshold));
  if (above == 0) return 0;
  const auto row = (Unsigned)load(ids);
  const unsigned good = above & bits_of(row < scan.n_rows - Unsigned{});
  pack(good, score, scores);
  return pack(good, row, rows);
}

template <std::size_t N>
TWHIN_INLINE std::size_t scan_blocks(const Scan& scan, std::size_t first, float* scores, std::uint32_t* rows) {
  const std::size_t end = 64 * scan.groups, stride = end + 64;
  const std::uint8_t* codes = scan.blocks + first * stride;
  Halves sums[N * kParts];
  for (Halves& sum : sums) sum = {Ints{}, Ints{}};
  for (std::size_t g = 0; g < scan.groups; ++g) {
    const Ints low = all(scan.query[2 * g]), high = all(scan.query[2 * g + 1]);
    for (std::size_t v = 0; v < N * kParts; ++v) {
      add_halves(sums[v], load(codes + v / kParts * stride + 64 * g + v % kParts * kWord), low, high);
    }
  }
  std::size_t found = 0;
#pragma GCC unroll 4
  for (std::size_t v = 0; v < N * kParts; ++v) {
    found += append(scan, sum_of(sums[v]), codes + v / kParts * stride + end + v % kParts * kWord, scores + found, rows + found);
  }
  return found;
}

TWHIN_TARGET std::size_t scan(const Scan& scan, float* scores, std::uint32_t* rows) {
  std::size_t found = 0, b = 0;
  for (; b + kBlocksAtOnce <= scan.n_blocks; b += kBlocksAtOnce) {
    found += scan_blocks<kBlocksAtOnce>(scan, b, scores + found, rows + found);
  }
  for (; b < scan.n_blocks; ++b) found += scan_blocks<1>(scan, b, scores + found, rows + found);
  return found;
}

TWHIN_TARGET float dot(const float* a, const float* b, std::size_t n) {
  Floats sums[kParts] = {};
  std::size_t i = 0;
  for (; i + kGroup <= n; i += kGroup) {
    for (std::size_t v = 0; v < kParts; ++v) sums[v] += load(a + i + kLanes * v) * load(b + i + kLanes * v);
  }
  float lanes[kGroup];
  std::memcpy(lanes, sums, sizeof lanes);
  for (std::size_t j = 0; i + j < n; ++j) lanes[j] += a[i + j] * b[i + j];
  return folded(lanes);
}

TWHIN_TARGET void dots(const float* const* rows, std::size_t n_rows, const float* b, std::size_t n, float* out) {
  const std::size_t whole = n / kGroup * kGroup;
  std::size_t first = 0;
  for (; first + kRowsAtOnce <= n_rows; first += kRowsAtOnce) {
    Floats sums[kRowsAtOnce][kParts] = {};
    for (std::size_t i = 0; i < whole; i += kGroup) {
      for (std::size_t v = 0; v < kParts; ++v) {
        const Floats with = load(b + i + kLanes * v);
        for (std::size_t r = 0; r < kRowsAtOnce; ++r) sums[r][v] += load(rows[first + r] + i + kLanes * v) * with;
      }
    }
    for (std::size_t r = 0; r < kRowsAtOnce; ++r) {
      float lanes[kGroup];
      std::memcpy(lanes, sums[r], sizeof lanes);
      for (std::size_t i = whole; i < n; ++i) lanes[i - whole] += rows[first + r][i] * b[i];
      out[first + r] = folded(lanes);
    }
  }
  for (; first < n_rows; ++first) out[first] = dot(rows[first], b, n);
}

TWHIN_INLINE Floats widened(const std::int8_t* codes) {
#if TWHIN_LANES == 16
  return real((Ints)_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes))));
#elif TWHIN_LANES == 8
  return real((Ints)_mm256_cvtepi8_epi32(_mm_loadu_si64(codes)));
#else
  Ints lanes;
  for (std::size_t i = 0; i < kLanes; ++i) lanes[i] = codes[i];
  return real(lanes);
#endif
}

TWHIN_TARGET float dot_codes(const std::int8_t* codes, float scale, std::size_t n, const float* with, std::size_t more) {
  Floats sums[kParts] = {};
  for (std::size_t i = 0; i < n; i += kGroup) {
    for (std::size_t v = 0; v < kParts; ++v) {
      sums[v] += load(with + i + kLanes * v) * (widened(codes + i + kLanes * v) * all(scale));
    }
  }
  float lanes[kGroup];
  std::memcpy(lanes, sums, sizeof lanes);
  for (std::size_t j = 0; j < more; ++j) {
    float value;
    std::memcpy(&value, codes + n + sizeof value * j, sizeof value);
    lanes[j % kGroup] += with[n + j] * value;
  }
  return folded(lanes);
}

TWHIN_INLINE Floats widened(const std::uint16_t* halves) {  // IEEE 754 half precision
#if TWHIN_LANES == 16
  return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(halves)));
#elif TWHIN_LANES == 8
  return (Floats)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves)));
#else
  return Floats{half(halves[0]), half(halves[1]), half(halves[2]), half(halves[3])};
#endif
}

TWHIN_TARGET void from_halves(const std::uint16_t* halves, std::size_t n, float* out) {
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, widened(halves + i));
  for (; i < n; ++i) out[i] = half(halves[i]);
}

TWHIN_TARGET void from_codes(const std::int8_t* codes, float scale, std::size_t n, float* out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(codes[i]) * scale;
}

struct Split {
  std::size_t above, below;
};

// Those above a pivot to `above`, which may be `values` itself, those below it to `below`; what is left is equal.
TWHIN_INLINE Split split(const float* values, std::size_t n, float pivot, float* above, float* below) {
  Split parts{0, 0};
  for (std::size_t i = 0; i < n; i += kLanes) {
    const unsigned here = first_lanes(n - i);
    const Floats value = load(values + i);
    parts.below += pack(here & bits_of(value < all(pivot)), value, below + parts.below);
    parts.above += pack(here & bits_of(value > all(pivot)), value, above + parts.above);  // never ahead of what has been read
  }
  return parts;
}

TWHIN_TARGET float kth_largest(float* values, float* spare, std::size_t n, std::size_t k) {
  for (;;) {
    const float a = values[n / 4], b = values[n / 2], c = values[n - 1 - n / 4];
    const float pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
    const Split parts = split(values, n, pivot, values, spare);
    if (k <= parts.above) {
      n = parts.above;
    } else if (k > n - parts.below) {
      k -= n - parts.below;
      n = parts.below;
      std::swap(values, spare);
    } else {
      return pivot;
    }
  }
}

TWHIN_TARGET std::size_t keep(float* scores, std::uint32_t* rows, std::size_t n, float threshold) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < n; i += kLanes) {
    const Floats score = load(scores + i);
    const unsigned good = first_lanes(n - i) & bits_of(score >= all(threshold));
    Unsigned row;
    std::memcpy(&row, rows + i, sizeof row);
    pack(good, score, scores + kept);
    kept += pack(good, row, rows + kept);
  }
  return kept;
}

TWHIN_TARGET std::size_t places(const float* values, std::size_t n, float threshold, std::uint32_t* out) {
  std::size_t found = 0;
  for (std::size_t i = 0; i < n; i += kLanes) {
    const unsigned good = first_lanes(n - i) & bits_of(load(values + i) >= all(threshold));
    if (good != 0) found += pack(good, ascending(i), out + found);
  }
  return found;
}

constexpr Kernel kKernel = {map, coarse, nearest, scan, dot, dots, dot_codes, from_halves, from_codes, kth_largest, keep, places};
