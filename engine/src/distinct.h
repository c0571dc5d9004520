// The distinct ids of a column, numbered as they come: hash tables that several threads fill at once.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

namespace twhin {

struct Numbers {  // ids in the order in which they came
  using Id = std::int64_t;
  static constexpr const char* kName = "twhin.DistinctNumbers";
  std::vector<std::int64_t> values;

  std::size_t size() const { return values.size(); }
  Id at(std::size_t i) const { return values[i]; }
  void push(Id id) { values.push_back(id); }
};

struct Texts {
  using Id = std::string_view;
  static constexpr const char* kName = "twhin.DistinctTexts";
  std::vector<std::uint64_t> ends;
  std::vector<char> bytes;

  std::size_t size() const { return ends.size(); }
  Id at(std::size_t i) const {
    const std::uint64_t begin = i == 0 ? 0 : ends[i - 1];
    return {bytes.data() + begin, ends[i] - begin};
  }
  void push(Id id) {
    bytes.insert(bytes.end(), id.begin(), id.end());
    ends.push_back(bytes.size());
  }
};

// Ids lie in one of 64 parts by their hash, each with a lock; the code of an id is its place in its part · 64 + the part.
template <class Ids>
class Distinct {
 public:
  static constexpr const char* kName = Ids::kName;
  static constexpr unsigned kPartBits = 6;
  static constexpr std::size_t kParts = std::size_t{1} << kPartBits;

  // Takes ids in and writes the code of each. Any thread may do this.
  template <class IdAt>
  void add(IdAt id_at, std::span<std::uint32_t> codes);

  std::size_t size() const;
  std::size_t codes() const;  // no code is as large
  const Ids& part(std::size_t p) const { return parts_[p].ids; }

 private:
  struct Slot {
    std::uint32_t tag, place;  // of the hash, and in the part + 1: 0 where it is free
  };
  struct Part {
    std::mutex busy;
    Ids ids;
    std::vector<Slot> slots;

    std::uint32_t place(std::uint32_t tag, typename Ids::Id id);
    void grow();
  };

  std::array<Part, kParts> parts_;
};

}  // namespace twhin
