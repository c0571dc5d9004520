// The file of an `ivf4` index: a header of 64 bytes, then arrays one after the other, each at a multiple of 64 bytes.
// docs/bundle-format.md is the normative text.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace twhin::ivf4 {

constexpr std::array<char, 8> kMagic{'T', 'W', 'I', 'V', 'F', '4', '\0', '\1'};
constexpr std::size_t kHeader = 64;

struct Header {
  std::array<char, 8> magic;
  std::uint64_t rows, held, lists, blocks;
};

constexpr std::size_t padded(std::size_t bytes) noexcept { return (bytes + 63) / 64 * 64; }
constexpr std::size_t groups_of(std::size_t lists) noexcept { return (lists + 15) / 16; }  // sixteen lists side by side

struct Layout {  // the offset of every part, and the end
  std::size_t lowest, step, scale, variance, spread, first_block, centroids, blocks, end;

  constexpr Layout(std::size_t held, std::size_t lists, std::size_t n_blocks) noexcept
      : lowest(kHeader),
        step(lowest + padded(4 * held)),
        scale(step + padded(4 * held)),
        variance(scale + padded(4 * held)),
        spread(variance + padded(4 * held)),
        first_block(spread + padded(4 * 16 * groups_of(lists))),
        centroids(first_block + padded(4 * (lists + 1))),
        blocks(centroids + groups_of(lists) * 16 * held),
        end(blocks + n_blocks * block_bytes(held)) {}

  // Eight columns of sixteen rows to 64 bytes, and the sixteen rows' numbers.
  static constexpr std::size_t block_bytes(std::size_t held) noexcept { return 64 * (held / 8 + 1); }
};

}  // namespace twhin::ivf4
