// Preparing edges: ids out of text, edges dealt to buckets by a hash of their ends, and which of a bucket are the same.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "arrays.h"
#include "binding.h"

namespace twhin {
namespace {

using Longs = std::span<const std::int64_t>;
using Ints = std::span<const std::int32_t>;

constexpr std::int64_t kMostDigits = 19;
constexpr std::uint64_t kSpread = 0x9E3779B97F4A7C15;  // 2^64 / golden ratio, as in graph/dedupe.py
constexpr std::size_t kTogether = 1 << 13;             // edges whose table stays in the caches

// The number that `length` characters spell in their one canonical form; -1 where they spell none.
std::int64_t canonical(const std::uint8_t* text, std::int64_t length) {
  if (length < 1 || length > kMostDigits || (text[0] == '0' && length > 1)) return -1;
  std::uint64_t number = 0;  // 19 digits fit
  for (std::int64_t i = 0; i < length; ++i) {
    const std::uint64_t digit = static_cast<std::uint64_t>(text[i]) - '0';
    if (digit > 9) return -1;
    number = number * 10 + digit;
  }
  return number > std::numeric_limits<std::int64_t>::max() ? -1 : static_cast<std::int64_t>(number);
}

std::int64_t numbers_of_text(Longs offsets, std::span<const std::uint8_t> utf8, std::span<std::int64_t> values) {
  require(offsets.size() == values.size() + 1, "each text has a number");
  const auto total = static_cast<std::int64_t>(utf8.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    require(0 <= offsets[i] && offsets[i] <= offsets[i + 1] && offsets[i + 1] <= total, "offsets ascend within the text");
    values[i] = canonical(utf8.data() + offsets[i], offsets[i + 1] - offsets[i]);
    if (values[i] < 0) return static_cast<std::int64_t>(i);
  }
  return static_cast<std::int64_t>(values.size());
}

void deal_edges(Ints src, Ints dst, Ints relation, std::int64_t targets, std::int64_t same_type, std::int64_t symmetric,
                std::span<std::uint64_t> keys, std::span<std::int32_t> positions, std::span<std::int32_t> relations,
                std::span<std::int64_t> ends, std::span<std::int64_t> loops) {
  const std::size_t n = src.size(), buckets = ends.size();
  require(dst.size() == n && keys.size() == n && positions.size() == n && n < std::size_t{1} << 31 && buckets > 0 &&
              relation.size() == relations.size() && (relation.empty() || relation.size() == n) && !loops.empty(),
          "each edge has a place");
  std::vector<std::uint64_t> made(n);
  std::vector<std::uint32_t> bucket(n);
  const auto none = static_cast<std::uint32_t>(buckets);
  std::vector<std::int64_t> next(buckets + 1);
  for (std::size_t i = 0; i < n; ++i) {
    if (same_type && src[i] == dst[i]) {
      const std::size_t of = relation.empty() ? 0 : static_cast<std::uint32_t>(relation[i]);
      require(of < loops.size(), "a relation that there is");
      ++loops[of];
      bucket[i] = none;
      continue;
    }
    const auto [first, second] = symmetric ? std::minmax(src[i], dst[i]) : std::pair<const std::int32_t&, const std::int32_t&>(src[i], dst[i]);
    made[i] = static_cast<std::uint64_t>(first) * static_cast<std::uint64_t>(targets) + static_cast<std::uint64_t>(second);
    bucket[i] = static_cast<std::uint32_t>((made[i] * kSpread >> 32) % buckets);
    ++next[bucket[i] + 1];
  }
  std::partial_sum(next.begin(), next.end(), next.begin());
  std::copy(next.begin() + 1, next.end(), ends.begin());
  for (std::size_t i = 0; i < n; ++i) {
    if (bucket[i] == none) continue;
    const auto at = static_cast<std::size_t>(next[bucket[i]]++);
    keys[at] = made[i];
    positions[at] = static_cast<std::int32_t>(i);
    if (!relation.empty()) relations[at] = relation[i];
  }
}

// Edges are dealt once more, by other bits of the hash, so that each table is small; then each is looked up in it.
void first_equal(std::span<const std::uint64_t> keys, Ints relations, std::span<std::int32_t> first) {
  const std::size_t n = keys.size();
  require(first.size() == n && n < std::size_t{1} << 31 && (relations.empty() || relations.size() == n), "each edge has a place");
  unsigned bits = 0;
  while (n >> bits > kTogether) ++bits;
  std::vector<std::uint32_t> tags(n), order(n);
  std::vector<std::size_t> starts((std::size_t{1} << bits) + 1);
  const auto group = [bits](std::uint32_t tag) { return bits == 0 ? 0 : tag >> (32 - bits); };
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t edge = relations.empty() ? keys[i] : keys[i] ^ static_cast<std::uint64_t>(relations[i]) * 0xD6E8FEB86659FD93;
    const std::uint64_t mixed = (edge ^ edge >> 32) * 0xA0761D6478BD642F;
    tags[i] = static_cast<std::uint32_t>((mixed ^ mixed >> 29) * kSpread >> 32);
    ++starts[group(tags[i]) + 1];
  }
  std::partial_sum(starts.begin(), starts.end(), starts.begin());
  auto next = starts;
  for (std::size_t i = 0; i < n; ++i) order[next[group(tags[i])]++] = static_cast<std::uint32_t>(i);
  std::vector<std::uint32_t> slots;  // the place of an edge + 1, 0 where free
  for (std::size_t g = 0; g + 1 < starts.size(); ++g) {
    std::size_t size = 2;
    while (size < 2 * (starts[g + 1] - starts[g])) size *= 2;
    slots.assign(size, 0);
    for (std::size_t k = starts[g]; k < starts[g + 1]; ++k) {
      const std::uint32_t i = order[k];
      std::size_t at = tags[i] & (size - 1);
      while (slots[at] != 0) {
        const std::uint32_t other = slots[at] - 1;
        if (keys[other] == keys[i] && (relations.empty() || relations[other] == relations[i])) break;
        at = (at + 1) & (size - 1);
      }
      if (slots[at] == 0) slots[at] = i + 1;
      first[i] = static_cast<std::int32_t>(slots[at] - 1);
    }
  }
}

}  // namespace

TWHIN_EXPORT(numbers_of_text, numbers_of_text, "Integer ids out of text; returns how many are sound before the first that is not.");
TWHIN_EXPORT(deal_edges, deal_edges, "Deal edges into buckets by a hash of their ends, without those that join an entity to itself.");
TWHIN_EXPORT(first_equal, first_equal, "The place of the first edge that is equal to each.");

}  // namespace twhin
