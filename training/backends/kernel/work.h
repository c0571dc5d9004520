// What the caller hands over: a bucket's arrays, borrowed, and the settings. `training/backends/compiled.py` mirrors it.

#pragma once

#include <cstdint>

extern "C" {

struct Table {
  float* vectors;
  float* accumulator;
  const float* previous;  // null: no pull to it
};

struct Group {
  const int32_t *src, *dst, *rel;
  const float* weight;  // null: all 1
  int64_t edges;
  const int64_t* out_offsets;  // neighbours and relations by source are `dst` and `rel` themselves
  const int64_t* in_offsets;
  const int32_t *in_neighbour, *in_relation;
  const int32_t* order;
  int64_t n_source, n_target;
  int32_t source_table, target_table;  // positions in Work.tables; equal when the arrays are the same
  int32_t one_relation;                // all edges have the same one: a row's neighbours need no search
};

struct Work {
  const Group* groups;
  const Table* tables;
  float *relations, *relation_accumulator;  // [R][2][dim]
  const float* relation_weight;
  const int32_t* chunk_group;
  const int64_t* chunk_start;
  int64_t end;
  uint64_t seed;
  int64_t n_relations;
  int32_t dim, chunk, negatives_in_batch, negatives_uniform, negatives_prevalence, chunks_per_update, logistic, inverse_relations, mask_all;
  float learning_rate, relation_learning_rate, l2_previous, l2;
};

struct Result {
  double loss;
  int64_t edges;
  int64_t diverged_at;  // -1: none
};
}
