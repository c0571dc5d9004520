// Rescoring: a small network over products of a user's side with each candidate, as recommend/rescoring.py defines them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "arrays.h"
#include "bitmap.h"
#include "paths.h"
#include "space.h"

namespace twhin {

// In the order of `Feature` in bundle/manifest.py.
enum Feature : std::size_t {
  kUser, kFoldIn, kDampedFoldIn, kFollowers, kRelation, kLength, kNearestTarget, kThreeNearestTargets, kSoftNearestTarget,
  kNearestFollower, kReciprocity, kInDegree, kOutDegree, kUserOutDegree, kUserInDegree, kFirstPath,
  kFeatures = kFirstPath + kPaths
};

constexpr std::size_t kMostNeighbours = 512;  // of more on either side an even sample stands for all
constexpr std::size_t kMostBlock = 32;        // candidates that a kernel takes at a time

struct Network {  // out · max(0, x·weights + bias), with one row of weights for each feature
  static constexpr const char* kName = "twhin.Network";
  std::size_t hidden = 0;
  Matrix<const float> weights;
  std::span<const float> bias, out;
  bool counts_paths = false;
};

struct Neighbours {  // so many users who are likest, and so many of what they have, join the candidates; none: 0
  std::size_t users = 0, candidates = 0;
};

struct User {  // of whom the candidates are
  std::int64_t row = -1;          // -1: unknown to training
  std::span<const float> vector;  // empty for one who is unknown
  std::span<const std::int32_t> targets, followers;  // ascending; inside the tables
  Elsewhere elsewhere = {};
};

// The user as the features see them. Vectors lie row after row: the user's, the relation's, the targets', the followers'.
struct Subject {
  std::size_t dim = 0, targets = 0, followers = 0;
  std::vector<float> vectors;
  std::vector<float> shares;           // of each target in the damped mean; they sum to 1
  std::vector<float> inverse_lengths;  // of the targets, then of the followers
  float log_out_degree = 0, log_in_degree = 0;

  // Where rows are kept as bytes they are multiplied as they are: of the user's and the relation's vector kPlanes rows of bytes each, which
  // stand for them as digits, and the codes of the others; four bytes a word, `n_words` a row (0: rows are floats).
  static constexpr std::size_t kPlanes = 3;
  std::size_t n_words = 0;
  std::vector<std::int32_t> words;
  std::vector<float> scales;         // of each row of bytes
  std::vector<std::int32_t> biases;  // 128 times the sum of its bytes

  std::size_t byte_rows() const { return 2 * kPlanes + targets + followers; }
  std::size_t queries() const { return 2 + targets + followers; }
};

struct Block {  // candidates side by side: what a kernel reads of each, and the features it makes
  std::size_t dim = 0;
  const void* rows[kMostBlock];  // floats, or codes
  float scales[kMostBlock];      // of the codes
  float reciprocal[kMostBlock], in_degree[kMostBlock], out_degree[kMostBlock];
  float paths[kPaths][kMostBlock];
  float* columns;   // dim × block; of codes n_words × block
  float* products;  // queries × block, and room for the digits before them
  float* features;  // kFeatures × block
};

class Rescorer {  // its buffers outlast a call: one for each thread
 public:
  // Scores of distinct candidates for a user by the relation, to which those of the neighbours that are not unwanted are added first.
  // Rows must lie inside the tables.
  void score(const Relation& relation, const Network& network, Neighbours neighbours, const User& user, const Unwanted& unwanted,
             std::vector<std::int32_t>& candidates, std::vector<float>& scores);

  // What the likest users have that is not unwanted, the likeliest first.
  std::span<const Reached> of_neighbours(const Relation& relation, Neighbours neighbours, const User& user, const Unwanted& unwanted);

  // The features alone, a row for each candidate.
  void features(const Relation& relation, const User& user, std::span<const std::int32_t> candidates, Matrix<float> out);

 private:
  std::span<const Reached> likeliest(const Relation& relation, Neighbours neighbours, const User& user, const Unwanted& unwanted);
  void add_neighbours(std::span<const Reached> some, const Relation& relation, std::vector<std::int32_t>& candidates);
  void prepare(const Relation& relation, const User& user);
  void gather(const Relation& relation, std::span<const std::int32_t> rows, std::size_t first);
  float set_bytes(std::size_t at, const void* codes, float scale);
  void fold_in(const Relation& relation, std::span<const std::int32_t> targets);
  void use_digits();
  void fill(const Relation& relation, std::span<const std::int32_t> candidates, std::size_t first, std::size_t size);
  template <class Each>
  void for_each_block(const Relation& relation, const User& user, std::span<const std::int32_t> candidates,
                      bool with_paths, Each each);
  std::span<const std::int32_t> sampled(std::span<const std::int32_t> rows, std::vector<std::int32_t>& kept);

  Subject subject_;
  Block block_;
  Bitmap reciprocal_, among_;
  std::vector<Reached> likeliest_;
  std::vector<std::int32_t> added_;
  PathCounter paths_;
  bool with_paths_ = false;
  std::vector<float> columns_, products_, features_, row_;
  std::vector<float> rows_;  // of a block, where they are decoded
  std::vector<std::int32_t> some_targets_, some_followers_;
};

}  // namespace twhin
