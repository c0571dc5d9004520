// What a version opens for the engine: entities, relations and the clusters of a space. Everything is borrowed from mapped files.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "arrays.h"
#include "csr.h"
#include "ids.h"
#include "rows.h"

namespace twhin {

struct Entities {  // of one type
  static constexpr const char* kName = "twhin.Entities";
  const Ids* ids = nullptr;
  Rows vectors;  // the embedding first, then the target's other columns
  std::size_t dim = 0;
  std::span<const std::int32_t> assignment;  // a cluster for each row, -1 outside of all; empty for a type that has none

  std::size_t size() const { return vectors.size(); }
  // Where it lies, or decoded into `room`.
  std::span<const float> embedding(std::size_t row, std::vector<float>& room) const {
    room.resize(std::max(room.size(), dim));
    return {vectors.read(row, dim, room.data()), dim};
  }
  std::int32_t cluster_of(std::size_t row) const { return assignment.empty() ? -1 : assignment[row]; }
};

struct Way {  // the adjacencies of two steps, from a user on to candidates
  const Csr* first;
  const Csr* second;
};

struct Relation;

struct Telling {  // a relation between the same types, and the share of its edges that says that this one follows
  const Relation* by;
  float share;
};

struct Mixtures {  // of users, over the clusters of the targets of some relations
  static constexpr const char* kName = "twhin.Mixtures";
  const Entities* of = nullptr;
  Csr clusters;                   // of an entity of that type, heaviest first
  std::span<const float> shares;  // in step with `clusters.indices`
};

struct Relation {
  static constexpr const char* kName = "twhin.Relation";
  const Entities* source = nullptr;
  const Entities* target = nullptr;
  std::span<const float> forward;        // added to a source when targets are ranked
  Csr targets, sources;                  // training edges, ascending in a row
  std::span<const float> weights;        // of `targets`, in step; empty: all 1
  std::span<const std::int32_t> popular;  // targets by falling in-degree
  double counts = 1.0;                   // what an engagement counts in a mixture
  bool counts_weights = false;           // whether times the edge's own weight
  bool symmetric = false;                // has each edge in both directions
  std::span<const std::int64_t> times = {};  // of `targets`, in step; empty: they have no age
  std::int64_t clock = 0;                // ages are counted among relations of one clock
  const Mixtures* mixtures = nullptr;    // relations of the same ones count together
  std::vector<Way> ways = {};            // over other relations, from its source to its target
  std::vector<Telling> elsewhere = {};   // by which a user may have a candidate already

  bool within_one_type() const { return source == target; }
};

struct Space {
  static constexpr const char* kName = "twhin.Space";
  std::vector<const Relation*> relations;
  Matrix<const float> centroids, medoids;
  std::size_t modes = 0;  // that any user has at most
  double half_life = 0;   // an engagement so much older counts half; 0: age is nothing
};

}  // namespace twhin
