// How interests share a slate: budgets by largest remainder, no candidate twice, dry interests hand on their share. The
// arithmetic of recommend/mixtures.py and merge.py.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "bitmap.h"

namespace twhin {

struct RankedList {  // the candidates of one mode, best first
  std::span<const std::int32_t> rows;
  std::span<const float> scores;
  float factor = 1.0f;  // of the scores
};

struct Pick {
  std::int32_t row;
  float score;
  std::int32_t mode;  // a position among the modes; -1: popularity chose it
};

class Merger {
 public:
  // Takes up to k candidates that are wanted in proportion to `shares`, of which none is wanted again, and appends them to `slate` in the
  // order in which the modes alternate. A candidate in several lists goes to the first mode that reaches it.
  void merge(std::span<const RankedList> lists, std::span<const float> shares, std::size_t k, Unwanted& taken,
             std::vector<Pick>& slate);

 private:
  struct Reader {
    std::size_t next = 0, budget = 0;
    double exact = 0;
  };
  struct Placed {
    double place;
    std::size_t number;  // among all that were drawn, mode after mode
  };
  void split(std::span<const float> shares, std::size_t k);
  void draw(std::span<const RankedList> lists, std::span<const float> shares, std::size_t k, Unwanted& taken);
  void take(const RankedList& list, std::size_t mode, Unwanted& taken);
  void alternate(std::vector<Pick>& slate);

  std::vector<Reader> readers_;
  std::vector<std::size_t> alive_, order_;
  std::vector<std::vector<Pick>> drawn_;
  std::vector<Placed> placed_;
};

}  // namespace twhin
