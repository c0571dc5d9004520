// The inner loops of a search, for the instruction set in use. search_kernel.h has them.
#pragma once
#include <cstddef>
#include <cstdint>

#include "arrays.h"

namespace twhin {

constexpr std::size_t kGroup = 16;        // rows of a block; lists of a group; partial sums of a product
constexpr std::size_t kNearestRows = 64;  // rows whose nearest lists are found at once

struct Scan {  // some blocks of one list, and what a query makes of them
  const std::uint8_t* blocks;     // a block: groups × 64 bytes of codes, 16 rows
  std::size_t n_blocks, groups;   // a group: 8 columns
  const std::int32_t* query;      // 2 × groups words of four int8
  float base, delta, threshold;   // score = base + delta · Σ query · code; kept above the threshold
  std::uint32_t n_rows;           // rows from here on are none: padding, or a damaged file
};

struct Nearest {  // sixteen centroids at a time, their codes four columns together
  const std::uint8_t* codes;
  std::size_t n_groups, quads;
  const float* bias;  // score = delta · Σ row · code + bias
};

struct Kernels {
  // out[j] = Σ query[i] · map[i][j], columns a multiple of 16.
  void (*map)(const float* query, Matrix<const float> map, float* out);
  // sums[l] = Σ query · code over the columns of centroid l.
  void (*coarse)(const std::uint8_t* codes, std::size_t n_groups, std::size_t quads, const std::int32_t* query,
                 std::int32_t* sums);
  // Of n rows, quads words each, the centroid of the highest score, the first of equals; n a multiple of 4, at most kNearestRows.
  void (*nearest)(const Nearest& among, const std::int32_t* rows, const float* delta, std::size_t n, std::int32_t* best);
  // Appends what scores above the threshold; returns how many, at most 16 × n_blocks, for which there is room.
  std::size_t (*scan)(const Scan& scan, float* scores, std::uint32_t* rows);
  float (*dot)(const float* a, const float* b, std::size_t n);
  // The same of each of some rows with `b`, to the bit.
  void (*dots)(const float* const* rows, std::size_t n_rows, const float* b, std::size_t n, float* out);
  // The same of n codes, a multiple of kGroup, times their scale, and of `more` numbers that follow them in memory as float32.
  float (*dot_codes)(const std::int8_t* codes, float scale, std::size_t n, const float* with, std::size_t more);
  // n numbers of IEEE 754 half precision as float, and n codes times their scale.
  void (*from_halves)(const std::uint16_t* halves, std::size_t n, float* out);
  void (*from_codes)(const std::int8_t* codes, float scale, std::size_t n, float* out);
  // For these three every array has room for n + 16, and may be read and written up to there.
  // The k-th largest of n values, 1 ≤ k ≤ n. `values` is reordered.
  float (*kth_largest)(float* values, float* spare, std::size_t n, std::size_t k);
  // Keeps the pairs of at least `threshold` in order; returns how many.
  std::size_t (*keep)(float* scores, std::uint32_t* rows, std::size_t n, float threshold);
  // The places of the values of at least `threshold`, ascending.
  std::size_t (*places)(const float* values, std::size_t n, float threshold, std::uint32_t* out);
};

const Kernels& kernels() noexcept;

}  // namespace twhin
