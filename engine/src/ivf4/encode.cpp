// Residuals to 4-bit codes: the row less its decoded centroid, in steps of the column's scale, 7.5 being none at all.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "ivf4/build.h"
#include "ivf4/layout.h"
#include "parallel.h"

namespace twhin::ivf4 {
namespace {

// Column j of row r of a block lies in byte 64 · (j / 8) + 4r + j % 4, in its high half where j % 8 is 4 or more.
float encode_row(const Centroids& centroids, std::span<const float> row, std::size_t list, const float* scale,
                 std::uint8_t* block, std::size_t place) {
  double square = 0;
  for (std::size_t j = 0; j < row.size(); ++j) {
    const float residual = row[j] - centroids.value(list, j);
    square += static_cast<double>(residual) * residual;
    const float steps = scale[j] > 0 ? residual / scale[j] + 7.5F : 7.5F;
    const auto code = static_cast<std::uint8_t>(std::lrint(std::clamp(steps, 0.0F, 15.0F)));
    std::uint8_t& byte = block[64 * (j / 8) + 4 * place + j % 4];
    byte = static_cast<std::uint8_t>(j % 8 < 4 ? (byte & 0xF0) | code : (byte & 0x0F) | code << 4);
  }
  return static_cast<float>(square);
}

}  // namespace

void encode(std::span<std::uint8_t> file, Matrix<const float> rows, std::span<const std::int32_t> lists,
            std::span<const std::uint32_t> slots, std::size_t first_row, std::span<float> squares, std::size_t threads) {
  Header header;
  std::memcpy(&header, file.data(), sizeof header);
  const Layout layout(header.held, header.lists, header.blocks);
  const auto floats = [&](std::size_t offset) {
    return std::span(reinterpret_cast<const float*>(file.data() + offset), header.held);
  };
  const Centroids centroids({file.data() + layout.centroids, groups_of(header.lists) * 16 * header.held},
                            floats(layout.lowest), floats(layout.step), header.lists);
  const float* scale = floats(layout.scale).data();
  parallel(rows.rows, threads, 1, [&](std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) {
      std::uint8_t* block = file.data() + layout.blocks + slots[i] / 16 * Layout::block_bytes(header.held);
      squares[i] = encode_row(centroids, rows.row(i), static_cast<std::size_t>(lists[i]), scale, block, slots[i] % 16);
      const auto number = static_cast<std::uint32_t>(first_row + i);
      std::memcpy(block + 64 * (header.held / 8) + 4 * (slots[i] % 16), &number, sizeof number);
    }
  });
}

}  // namespace twhin::ivf4
