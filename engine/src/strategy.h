// How candidates are found, and what one request asks for: the engine's view of bundle/manifest.py and recommend/types.py.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "arrays.h"
#include "rescoring.h"

namespace twhin {

enum class Merge : std::int64_t { single, proportional, popular };
enum class ModeVector : std::int64_t { personal, centroid, medoid };

struct Weights {  // of the terms of a query and of its score
  double user = 0, fold_in = 0, mode = 0, relation = 0, popularity = 0, reciprocity = 0, elsewhere = 0, recency = 0;
};

struct Strategy {
  static constexpr const char* kName = "twhin.Strategy";
  Merge merge = Merge::single;
  ModeVector mode_vector = ModeVector::personal;
  Weights weights;
  Matrix<const std::int32_t> list_rows;  // of every cluster its stored candidates, best first; empty: they are searched
  Matrix<const float> list_scores;
  std::size_t list_first = 0;  // the cluster of the first list
  std::size_t pool = 0;  // candidates that are rescored; 0: none
  Neighbours neighbours;
  Network network;
};

struct Request {
  std::int64_t user = -1;  // a row of the relation's source type; -1: unknown to training
  std::size_t k = 0, modes = 0;
  bool exclude_seen = true;
  bool changed = false;                      // live edges of some relation of the space have changed the user's interests
  Matrix<const std::int64_t> edges;          // live ones: the relation's number, 1 added or 0 removed, the target's row, when
  std::span<const std::int64_t> unwanted;    // rows that the answer must not have
  std::span<const std::int64_t> followers;   // with an edge to the user, besides those that training knows
  std::span<const std::uint8_t> eligible = {};  // a filter's bitmap (see Unwanted); empty: there is none
};

}  // namespace twhin
