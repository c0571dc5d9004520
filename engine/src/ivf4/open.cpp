// Opening the file of an `ivf4` index: everything that a search relies on is checked here, at a price that does not grow
// with the rows. Codes may be any bytes, and a row's number is compared with the rows when it is about to be answered.
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "ivf4.h"
#include "ivf4/layout.h"

namespace twhin {
namespace {

using ivf4::Header;
using ivf4::Layout;

constexpr std::uint64_t kMost = std::uint64_t{1} << 31;  // rows and blocks have numbers of 31 bits
constexpr std::uint64_t kMostColumns = 1 << 14;
constexpr float kLargest = 1e12F;  // sums of products of such numbers stay finite

Header header_of(std::span<const std::uint8_t> file) {
  Header header;
  require(file.size() >= ivf4::kHeader, "it is shorter than a header");
  std::memcpy(&header, file.data(), sizeof header);
  require(header.magic == ivf4::kMagic, "it does not begin as an ivf4 index of this format does");
  require(header.rows < kMost && header.blocks < kMost && header.lists >= 1 && header.lists < kMost / 16,
          "its header has numbers that no index has");
  require(header.held >= 16 && header.held <= kMostColumns && header.held % 16 == 0,
          "its header has columns that no index has");
  const Layout layout(header.held, header.lists, header.blocks);
  require(file.size() == layout.end, "it is not as long as its header says");
  return header;
}

void require_numbers(const float* values, std::size_t n, float least, const char* what) {
  for (std::size_t i = 0; i < n; ++i) require(values[i] >= least && values[i] <= kLargest, what);  // NaN is neither
}

void require_ascending(const std::uint32_t* first, std::size_t lists, std::size_t blocks) {
  bool good = first[0] == 0 && first[lists] == blocks;
  for (std::size_t i = 0; i < lists; ++i) good &= first[i] <= first[i + 1];
  require(good, "its lists do not follow one another");
}

}  // namespace

Ivf4::Ivf4(std::span<const std::uint8_t> file, Matrix<const float> query_map, const Rows& vectors)
    : query_map_(query_map), vectors_(vectors) {
  require(reinterpret_cast<std::uintptr_t>(file.data()) % 64 == 0, "it does not lie at a multiple of 64 bytes");
  const Header header = header_of(file);
  require(header.rows == vectors.size(), "it has another number of rows than the vectors");
  require(header.held == query_map.columns && query_map.rows == vectors.columns(),
          "it has other columns than the map of queries, or that another width than the vectors");
  const Layout layout(header.held, header.lists, header.blocks);
  const std::uint8_t* at = file.data();
  const auto floats = [at](std::size_t offset) { return reinterpret_cast<const float*>(at + offset); };
  file_ = File{.rows = header.rows,
               .held = header.held,
               .lists = header.lists,
               .blocks = header.blocks,
               .lowest = floats(layout.lowest),
               .step = floats(layout.step),
               .scale = floats(layout.scale),
               .variance = floats(layout.variance),
               .spread = floats(layout.spread),
               .first_block = reinterpret_cast<const std::uint32_t*>(at + layout.first_block),
               .centroids = at + layout.centroids,
               .codes = at + layout.blocks};
  require_numbers(file_.lowest, file_.held, -kLargest, "a column's lowest value is no number to reckon with");
  require_numbers(file_.step, file_.held, 0, "a column's step is no number to reckon with");
  require_numbers(file_.scale, file_.held, 0, "a column's scale is no number to reckon with");
  require_numbers(file_.variance, file_.held, 0, "a column's variance is no number to reckon with");
  require_numbers(file_.spread, 16 * ivf4::groups_of(file_.lists), 0, "a list's spread is no number to reckon with");
  require_numbers(query_map.data, query_map.rows * query_map.columns, -kLargest, "the map of queries is none");
  require_ascending(file_.first_block, file_.lists, file_.blocks);
}

}  // namespace twhin
