// Walkers that stand at entities, and their sum over the marked rows of a list.
#pragma once
#include <cstdint>
#include <span>

#include "bitmap.h"

namespace twhin {

struct Mass {  // of walkers that stand at an entity, and the same by the roots of the steps' shares
  float plain, root;
};

// The sum over those of `rows` whose bit is set; `masses` has one for every row that may be.
Mass sum_of_marked(const Bitmap& bits, std::span<const std::int32_t> rows, const Mass* masses);

}  // namespace twhin
