// Walkers that stand at entities: where they come, how they go on, and their sum over the rows of a list.
#pragma once
#include <cstdint>
#include <span>

#include "csr.h"

namespace twhin {

struct Mass {  // of walkers that stand at an entity, and the same by the roots of the steps' shares
  float plain, root;
};

constexpr std::size_t kMostSources = 256;  // of a list, in an even sample: see recommend/paths.py

// The sum over `rows`, or over kMostSources of them, evenly apart, which stand for all. Those from `end` on are none: `masses` has
// one more than `end`, and the last is zero.
Mass sum_of_sample(std::size_t end, std::span<const std::int32_t> rows, const Mass* masses);

// Adds `share`, which is not zero, to each of the distinct `rows` below `end`. Copies those that had nothing, in order; `out` has
// room for all. Returns how many they are.
std::size_t add_share(std::size_t end, std::span<const std::int32_t> rows, Mass share, Mass* masses, std::int32_t* out);

// Divides what has come to each of `rows` by the edges that `lists` has from there, and by their root.
void divide_by_degrees(const Csr& lists, std::span<const std::int32_t> rows, Mass* masses);

}  // namespace twhin
