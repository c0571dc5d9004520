// Exact counts of the paths of two edges between a user and candidates, and walks of three: recommend/paths.py has the definition.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bitmap.h"
#include "masses.h"
#include "space.h"

namespace twhin {

// What the user has by other relations: rows, ascending, and in step the share that each is worth and its recency (recommend/elsewhere.py).
struct Elsewhere {
  std::span<const std::int32_t> rows;
  std::span<const float> shares, recencies;
};

constexpr std::size_t kPaths = 13;
constexpr std::size_t kPathCounts = 4;         // of the paths; the others are damped, or walks
constexpr std::size_t kMostRead = 1 << 15;     // entries of lists that are read for each side of a user
static_assert(kMostRead < kMostPlaces);
constexpr std::size_t kMostWays = 16;          // over other relations

// The ways from a user over other relations: a step, and another that is found from the candidate's end. Once the space has all.
void find_ways(const Space& space, Relation& relation);

// What the likest users have, and the sum of their masses: see recommend/neighbours.py.
struct Reached {
  std::int32_t row;
  float mass;
};

inline bool likelier(const Reached& a, const Reached& b) { return a.mass != b.mass ? a.mass > b.mass : a.row < b.row; }

class PathCounter {  // its buffers outlast a request: one for each thread
 public:
  // Two steps of the walk from the targets, u→i←v, which `reached` and `count` go on from: first of all, for each user.
  void walk_back(const Relation& relation, std::span<const std::int32_t> targets);

  // What the `users` where most walkers are have, all but the one of row `but`: ascending, each once, inside the table.
  std::span<const Reached> reached(const Relation& relation, std::int64_t but, std::size_t users);

  // Counts for distinct candidates that are inside the target's table; `targets` and `followers` ascend and are inside theirs,
  // as is what the user has elsewhere.
  void count(const Relation& relation, std::int64_t user, std::span<const std::int32_t> targets,
             std::span<const std::int32_t> followers, const Elsewhere& elsewhere, std::span<const std::int32_t> candidates);

  // Of each candidate.
  std::span<const float> counted(std::size_t path) const { return {values_.data() + path * candidates_, candidates_}; }

 private:
  std::span<float> values(std::size_t path) { return {values_.data() + path * candidates_, candidates_}; }
  std::span<const std::int32_t> shortest(const Csr& lists, std::span<const std::int32_t> rows);
  std::span<const std::int32_t> marked(const Bitmap& bits, std::span<const std::int32_t> list);
  void two_steps(const Csr& second, std::span<const std::int32_t> middles, float* counts, float* damped);
  void walk_on(const Relation& relation, std::span<const std::int32_t> candidates);

  std::size_t candidates_ = 0;
  std::vector<float> values_;
  Bitmap wanted_;
  Zeros<std::int32_t> slots_;  // the place of a wanted row among the candidates
  Masses masses_;              // of the user whose walk was begun last
  std::vector<std::int32_t> chosen_, order_, hits_, likest_rows_;
  std::vector<Reached> likest_, reached_;
};

}  // namespace twhin
