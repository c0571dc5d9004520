// The external ids of one entity type: numbers or texts, ascending, as bundle/ids.py lays them out.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace twhin {

class Ids {
 public:
  static constexpr const char* kName = "twhin.Ids";

  explicit Ids(std::span<const std::int64_t> numbers) : numbers_(numbers), size_(numbers.size()) {}
  Ids(std::span<const std::int64_t> offsets, std::span<const std::uint8_t> utf8)
      : offsets_(offsets), utf8_(utf8), size_(offsets.empty() ? 0 : offsets.size() - 1) {}

  std::size_t size() const { return size_; }

  // The row of an id, -1 when there is none: numbers in their one canonical form, texts byte by byte.
  std::int64_t find(std::string_view external) const;

  // Writes the id of a row as a JSON string; returns the end. `room()` bytes are enough for any.
  char* write(std::size_t row, char* out) const;
  std::size_t room(std::size_t row) const;
  void fetch(std::size_t row) const {  // what `write` reads first
    __builtin_prefetch(offsets_.empty() ? numbers_.data() + row : offsets_.data() + row);
  }

 private:
  std::string_view text(std::size_t row) const;

  std::span<const std::int64_t> numbers_, offsets_;
  std::span<const std::uint8_t> utf8_;
  std::size_t size_;
};

}  // namespace twhin
