// Collecting the distinct ids of a graph: see distinct.h.
#include "distinct.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <memory>
#include <numeric>

#include "arrays.h"
#include "binding.h"
#include "parallel.h"

namespace twhin {
namespace {

constexpr std::size_t kAhead = 8;  // ids whose slots are asked for before they are looked at
constexpr std::size_t kFirstSlots = 16;
constexpr std::uint64_t kOdd[] = {0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F};

std::uint64_t mixed(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

std::uint64_t hash(std::int64_t number) { return mixed(static_cast<std::uint64_t>(number) ^ kOdd[0], kOdd[1]); }

std::uint64_t hash(std::string_view text) {
  std::uint64_t state = text.size() * kOdd[0], word = 0;
  const char* at = text.data();
  std::size_t left = text.size();
  for (; left >= sizeof word; left -= sizeof word, at += sizeof word) {
    std::memcpy(&word, at, sizeof word);
    state = mixed(state ^ word, kOdd[1]) + kOdd[0];
  }
  word = 0;
  if (left) std::memcpy(&word, at, left);
  return mixed(state ^ word, kOdd[2]);
}

}  // namespace

template <class Ids>
std::uint32_t Distinct<Ids>::Part::place(std::uint32_t tag, typename Ids::Id id) {
  if (4 * (ids.size() + 1) > 3 * slots.size()) grow();
  const std::size_t mask = slots.size() - 1;
  for (std::size_t at = tag & mask;; at = (at + 1) & mask) {
    Slot& slot = slots[at];
    if (slot.place == 0) {
      require(ids.size() < std::size_t{1} << (32 - kPartBits), "more ids than have codes of 32 bits");
      ids.push(id);
      slot = {tag, static_cast<std::uint32_t>(ids.size())};
      return slot.place - 1;
    }
    if (slot.tag == tag && ids.at(slot.place - 1) == id) return slot.place - 1;
  }
}

template <class Ids>
void Distinct<Ids>::Part::grow() {
  std::vector<Slot> larger(std::max(kFirstSlots, 2 * slots.size()), Slot{0, 0});
  const std::size_t mask = larger.size() - 1;
  for (const Slot slot : slots) {
    if (slot.place == 0) continue;
    std::size_t at = slot.tag & mask;
    while (larger[at].place != 0) at = (at + 1) & mask;
    larger[at] = slot;
  }
  slots = std::move(larger);
}

template <class Ids>
template <class IdAt>
void Distinct<Ids>::add(IdAt id_at, std::span<std::uint32_t> codes) {
  const std::size_t n = codes.size();
  std::vector<std::uint64_t> hashes(n);
  std::vector<std::size_t> starts(kParts + 1);
  for (std::size_t i = 0; i < n; ++i) {
    hashes[i] = hash(id_at(i));
    ++starts[(hashes[i] >> (64 - kPartBits)) + 1];
  }
  std::partial_sum(starts.begin(), starts.end(), starts.begin());
  std::vector<std::uint32_t> order(n);  // those of one part together, so that its table stays in the caches
  auto next = starts;
  for (std::size_t i = 0; i < n; ++i) order[next[hashes[i] >> (64 - kPartBits)]++] = static_cast<std::uint32_t>(i);

  static std::atomic<std::size_t> turn{0};
  const std::size_t first = turn.fetch_add(1, std::memory_order_relaxed) * 29;  // threads begin apart
  for (std::size_t step = 0; step < kParts; ++step) {
    const std::size_t p = (first + step) % kParts;
    if (starts[p] == starts[p + 1]) continue;
    Part& part = parts_[p];
    const std::lock_guard lock(part.busy);
    for (std::size_t k = starts[p]; k < starts[p + 1]; ++k) {
      if (k + kAhead < starts[p + 1] && !part.slots.empty()) {
        const auto tag = static_cast<std::uint32_t>(hashes[order[k + kAhead]]);
        __builtin_prefetch(&part.slots[tag & (part.slots.size() - 1)]);
      }
      const std::size_t i = order[k];
      const std::uint32_t place = part.place(static_cast<std::uint32_t>(hashes[i]), id_at(i));
      codes[i] = place << kPartBits | static_cast<std::uint32_t>(p);
    }
  }
}

template <class Ids>
std::size_t Distinct<Ids>::size() const {
  std::size_t found = 0;
  for (const Part& part : parts_) found += part.ids.size();
  return found;
}

template <class Ids>
std::size_t Distinct<Ids>::codes() const {
  std::size_t most = 0;
  for (const Part& part : parts_) most = std::max(most, part.ids.size());
  return most << kPartBits;
}

namespace {

using Spans = std::span<const std::int64_t>;

std::unique_ptr<Distinct<Numbers>> distinct_numbers() { return std::make_unique<Distinct<Numbers>>(); }
std::unique_ptr<Distinct<Texts>> distinct_texts() { return std::make_unique<Distinct<Texts>>(); }

void add_numbers(Distinct<Numbers>& ids, Spans values, std::span<std::uint32_t> codes) {
  require(values.size() == codes.size() && values.size() >> 32 == 0, "each id has a code");
  ids.add([values](std::size_t i) { return values[i]; }, codes);
}

void add_texts(Distinct<Texts>& ids, Spans offsets, std::span<const std::uint8_t> utf8, std::span<std::uint32_t> codes) {
  require(offsets.size() == codes.size() + 1 && codes.size() >> 32 == 0, "each id has a code");
  require(offsets.front() >= 0 && std::is_sorted(offsets.begin(), offsets.end()) &&
              static_cast<std::size_t>(offsets.back()) <= utf8.size(),
          "offsets ascend within the text");
  const char* text = reinterpret_cast<const char*>(utf8.data());
  ids.add(
      [=](std::size_t i) { return std::string_view(text + offsets[i], static_cast<std::size_t>(offsets[i + 1] - offsets[i])); },
      codes);
}

std::int64_t numbers_size(Distinct<Numbers>& ids) { return static_cast<std::int64_t>(ids.size()); }
std::int64_t numbers_codes(Distinct<Numbers>& ids) { return static_cast<std::int64_t>(ids.codes()); }
std::int64_t texts_size(Distinct<Texts>& ids) { return static_cast<std::int64_t>(ids.size()); }
std::int64_t texts_codes(Distinct<Texts>& ids) { return static_cast<std::int64_t>(ids.codes()); }

std::int64_t texts_bytes(Distinct<Texts>& ids) {
  std::size_t found = 0;
  for (std::size_t p = 0; p < ids.kParts; ++p) found += ids.part(p).bytes.size();
  return static_cast<std::int64_t>(found);
}

template <class Ids, class Each>
void each_code(const Distinct<Ids>& ids, Each each) {
  for (std::size_t p = 0; p < ids.kParts; ++p) {
    for (std::size_t i = 0; i < ids.part(p).size(); ++i) each(static_cast<std::uint32_t>(i << ids.kPartBits | p));
  }
}

template <class Ids>
typename Ids::Id coded(const Distinct<Ids>& ids, std::uint32_t code) {
  return ids.part(code % ids.kParts).at(code >> ids.kPartBits);
}

void list_numbers(Distinct<Numbers>& ids, std::span<std::int64_t> values, std::span<std::uint32_t> codes) {
  require(values.size() == ids.size() && codes.size() == ids.size(), "there is room for each id");
  std::size_t row = 0;
  each_code(ids, [&](std::uint32_t code) {
    values[row] = coded(ids, code);
    codes[row++] = code;
  });
}

// Texts are compared by the eight bytes after what all have in common, as one number, and as a whole where these are alike.
struct Item {
  std::uint64_t key;
  std::uint32_t code;
};

std::uint64_t eight_bytes(std::string_view text, std::size_t from) {
  std::uint64_t key = 0;
  if (from < text.size()) std::memcpy(&key, text.data() + from, std::min(sizeof key, text.size() - from));
  return std::endian::native == std::endian::little ? __builtin_bswap64(key) : key;
}

std::vector<Item> ascending(const Distinct<Texts>& ids, std::size_t threads) {
  std::vector<Item> items;
  items.reserve(ids.size());
  each_code(ids, [&](std::uint32_t code) { items.push_back({0, code}); });
  if (items.empty()) return items;
  const std::string_view one = coded(ids, items.front().code);
  std::size_t common = one.size();
  for (const Item item : items) {
    const std::string_view text = coded(ids, item.code);
    common = static_cast<std::size_t>(
        std::mismatch(text.begin(), text.begin() + std::min(common, text.size()), one.begin()).first - text.begin());
  }
  const auto before = [&ids](const Item& a, const Item& b) {
    return a.key != b.key ? a.key < b.key : coded(ids, a.code) < coded(ids, b.code);
  };
  const std::size_t grain = std::max<std::size_t>(1, (items.size() + threads - 1) / threads);
  parallel(items.size(), threads, grain, [&](std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) items[i].key = eight_bytes(coded(ids, items[i].code), common);
    std::sort(items.begin() + first, items.begin() + last, before);
  });
  for (std::size_t width = grain; width < items.size(); width *= 2) {
    for (std::size_t first = 0; first + width < items.size(); first += 2 * width) {
      const auto begin = items.begin() + static_cast<std::ptrdiff_t>(first);
      std::inplace_merge(begin, begin + static_cast<std::ptrdiff_t>(width),
                         begin + static_cast<std::ptrdiff_t>(std::min(2 * width, items.size() - first)), before);
    }
  }
  return items;
}

void sort_texts(Distinct<Texts>& ids, std::int64_t threads, std::span<std::int64_t> offsets, std::span<std::uint8_t> utf8,
                std::span<std::uint32_t> codes) {
  require(offsets.size() == ids.size() + 1 && codes.size() == ids.size() && threads > 0 &&
              utf8.size() == static_cast<std::size_t>(texts_bytes(ids)),
          "there is room for each id");
  std::size_t row = 0, end = 0;
  offsets[0] = 0;
  for (const Item item : ascending(ids, static_cast<std::size_t>(threads))) {
    const std::string_view text = coded(ids, item.code);
    if (!text.empty()) std::memcpy(utf8.data() + end, text.data(), text.size());
    end += text.size();
    codes[row++] = item.code;
    offsets[row] = static_cast<std::int64_t>(end);
  }
}

}  // namespace

TWHIN_EXPORT(distinct_numbers, distinct_numbers, "No ids yet, to be numbers.");
TWHIN_EXPORT(distinct_texts, distinct_texts, "No ids yet, to be texts.");
TWHIN_EXPORT(add_numbers, add_numbers, "Take ids in and write the code of each.");
TWHIN_EXPORT(add_texts, add_texts, "Take ids in and write the code of each.");
TWHIN_EXPORT(numbers_size, numbers_size, "How many distinct ids there are.");
TWHIN_EXPORT(texts_size, texts_size, "How many distinct ids there are.");
TWHIN_EXPORT(texts_bytes, texts_bytes, "How many bytes they have together.");
TWHIN_EXPORT(numbers_codes, numbers_codes, "A number above all codes.");
TWHIN_EXPORT(texts_codes, texts_codes, "A number above all codes.");
TWHIN_EXPORT(list_numbers, list_numbers, "The distinct ids and their codes.");
TWHIN_EXPORT(sort_texts, sort_texts, "The distinct ids ascending by bytes, and their codes.");

}  // namespace twhin
