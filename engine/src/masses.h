// Walkers that stand at entities: where they come, how they go on, and their sum over the marked rows of a list.
#pragma once
#include <cstdint>
#include <span>

#include "bitmap.h"
#include "csr.h"

namespace twhin {

struct Mass {  // of walkers that stand at an entity, and the same by the roots of the steps' shares
  float plain, root;
};

// The sum over those of `rows` whose bit is set; `masses` has one for every row that may be.
Mass sum_of_marked(const Bitmap& bits, std::span<const std::int32_t> rows, const Mass* masses);

// Adds `share`, which is not zero, to each of the distinct `rows` below `end`. Copies those that had nothing, in order; `out` has
// room for all and kMassSlack more. Returns how many they are.
std::size_t add_share(std::size_t end, std::span<const std::int32_t> rows, Mass share, Mass* masses, std::int32_t* out);
constexpr std::size_t kMassSlack = 8;

// Divides what has come to each of `rows` by the edges that `lists` has from there, and by their root.
void divide_by_degrees(const Csr& lists, std::span<const std::int32_t> rows, Mass* masses);

}  // namespace twhin
