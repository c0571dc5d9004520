// Gathering a user's side and the candidates', block by block, and handing them to the kernel of this processor.
#include "rescoring.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>

#include "kernels.h"
#include "level.h"
#if TWHIN_X86
#include <immintrin.h>
#elif TWHIN_ARM
#include <arm_neon.h>
#endif

namespace twhin {
namespace {

constexpr float kTiny = 1e-6f, kLowest = -std::numeric_limits<float>::infinity();
constexpr float kFinest = 1000.0f;  // damped paths and walks end where a thousandth is little

struct Sums {  // of bytes, and of their squares
  std::int32_t plain, squared;
};

struct Kernel {
  std::size_t block;
  void (*features)(const Subject&, const Block&);
  void (*network)(const Network&, const Block&, float* scores);
  Sums (*sums)(const std::int8_t* codes, std::size_t n);
};

#define TWHIN_BYTES
#define TWHIN_KERNEL "rescoring_kernel.h"
#include "each_level.h"

// A vector by digits: value ≈ scale · (65536 · third + 256 · second + first), each of −128 to 127 and in a row of its own. What is no
// number counts as zero.
void to_digits(std::span<const float> vector, std::int8_t* const rows[Subject::kPlanes], float scales[Subject::kPlanes]) {
  constexpr float kMost = 127.0f * 65536.0f;
  float largest = 0;
  for (const float value : vector) largest = std::max(largest, std::isfinite(value) ? std::fabs(value) : 0.0f);
  const float inverse = largest > 1e-30f ? kMost / largest : 0.0f;
  for (std::size_t d = 0; d < vector.size(); ++d) {
    const float exact = std::isfinite(vector[d]) ? vector[d] * inverse : 0.0f;
    const auto number = static_cast<std::int32_t>(exact + (exact < 0 ? -0.5f : 0.5f));
    const auto first = static_cast<std::int8_t>(number);
    const std::int32_t rest = (number - first) / 256;
    const auto second = static_cast<std::int8_t>(rest);
    rows[0][d] = first, rows[1][d] = second, rows[2][d] = static_cast<std::int8_t>((rest - second) / 256);
  }
  const float scale = largest / kMost;
  scales[0] = scale, scales[1] = 256.0f * scale, scales[2] = 65536.0f * scale;
}

}  // namespace

std::span<const std::int32_t> Rescorer::sampled(std::span<const std::int32_t> rows, std::vector<std::int32_t>& kept) {
  if (rows.size() <= kMostNeighbours) return rows;
  const double step = static_cast<double>(rows.size() - 1) / (kMostNeighbours - 1);
  kept.resize(kMostNeighbours);
  for (std::size_t i = 0; i + 1 < kMostNeighbours; ++i) kept[i] = rows[static_cast<std::size_t>(static_cast<double>(i) * step)];
  kept.back() = rows.back();
  return kept;
}

// A row of bytes of the subject, and what is made of it; returns its length before it is scaled, squared.
float Rescorer::set_bytes(std::size_t at, const void* codes, float scale) {
  Subject& user = subject_;
  auto* const row = reinterpret_cast<std::int8_t*>(user.words.data() + at * user.n_words);
  if (row != codes) std::memcpy(row, codes, user.dim);
  const Sums sums = kernel().sums(row, user.dim);
  user.scales[at] = scale, user.biases[at] = 128 * sums.plain;
  return static_cast<float>(sums.squared);
}

// The embeddings of neighbours, the first of whom is the subject's query `first`, and their lengths.
void Rescorer::gather(const Relation& relation, std::span<const std::int32_t> rows, std::size_t first) {
  constexpr std::size_t kAhead = 8;
  Subject& user = subject_;
  const Rows& vectors = relation.target->vectors;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i + kAhead < rows.size()) vectors.fetch(static_cast<std::size_t>(rows[i + kAhead]));
    const auto row = static_cast<std::size_t>(rows[i]);
    float length;
    if (user.n_words) {
      const float scale = vectors.scale(row);
      length = std::sqrt(set_bytes(2 * Subject::kPlanes - 2 + first + i, vectors.codes(row), scale)) * scale;
    } else {
      const auto vector = relation.target->embedding(row, row_);
      std::copy(vector.begin(), vector.end(), user.vectors.begin() + static_cast<std::ptrdiff_t>((first + i) * user.dim));
      length = std::sqrt(kernels().dot(vector.data(), vector.data(), vector.size()));
    }
    user.inverse_lengths[first - 2 + i] = 1.0f / std::max(length, kTiny);
  }
}

void Rescorer::prepare(const Relation& relation, const User& of) {
  const auto some = sampled(of.targets, some_targets_), others = sampled(of.followers, some_followers_);
  Subject& user = subject_;
  const Rows& rows = relation.target->vectors;
  user.dim = relation.target->dim, user.targets = some.size(), user.followers = others.size();
  user.n_words = rows.coded() == user.dim && user.dim % 4 == 0 ? user.dim / 4 : 0;
  user.log_out_degree = std::log1p(static_cast<float>(of.targets.size()));
  user.log_in_degree = std::log1p(static_cast<float>(of.followers.size()));
  user.vectors.resize((user.n_words ? 2 : user.queries()) * user.dim);
  user.words.resize(user.byte_rows() * user.n_words);
  user.scales.resize(user.byte_rows()), user.biases.resize(user.byte_rows());
  user.inverse_lengths.resize(some.size() + others.size());
  user.shares.resize(some.size());
  gather(relation, some, 2);
  gather(relation, others, 2 + some.size());
  float sum = 0;
  for (std::size_t i = 0; i < some.size(); ++i) {
    const auto degree = static_cast<float>(relation.sources.degree(static_cast<std::size_t>(some[i])));
    sum += user.shares[i] = 1.0f / std::sqrt(1.0f + degree);
  }
  for (float& share : user.shares) share /= sum;
  std::copy(relation.forward.begin(), relation.forward.end(), user.vectors.begin() + static_cast<std::ptrdiff_t>(user.dim));
  if (of.vector.empty()) fold_in(relation, some);
  else std::copy(of.vector.begin(), of.vector.end(), user.vectors.begin());
  if (user.n_words) use_digits();
}

// Without a vector the fold-in stands for the user: zeros of nothing.
void Rescorer::fold_in(const Relation& relation, std::span<const std::int32_t> targets) {
  Subject& user = subject_;
  std::fill_n(user.vectors.begin(), user.dim, 0.0f);
  const float share = 1.0f / static_cast<float>(std::max<std::size_t>(1, targets.size()));
  for (const std::int32_t target : targets) {
    const auto vector = relation.target->embedding(static_cast<std::size_t>(target), row_);
    for (std::size_t d = 0; d < user.dim; ++d) user.vectors[d] += vector[d];
  }
  for (std::size_t d = 0; d < user.dim; ++d) user.vectors[d] *= share;
}

// The user's and the relation's vector as bytes.
void Rescorer::use_digits() {
  Subject& user = subject_;
  for (std::size_t i = 0, at = 0; i < 2; ++i, at += Subject::kPlanes) {
    std::int8_t* digits[Subject::kPlanes];
    float scales[Subject::kPlanes];
    for (std::size_t plane = 0; plane < Subject::kPlanes; ++plane)
      digits[plane] = reinterpret_cast<std::int8_t*>(user.words.data() + (at + plane) * user.n_words);
    to_digits({user.vectors.data() + i * user.dim, user.dim}, digits, scales);
    for (std::size_t plane = 0; plane < Subject::kPlanes; ++plane) set_bytes(at + plane, digits[plane], scales[plane]);
  }
}

// The candidates from `first` on; the last block is filled up with its last candidate.
void Rescorer::fill(const Relation& relation, std::span<const std::int32_t> candidates, std::size_t first,
                    std::size_t size) {
  const std::size_t dim = subject_.dim;
  const Rows& vectors = relation.target->vectors;
  rows_.resize(size * dim);
  for (std::size_t i = 0; i < size; ++i) {
    const auto row = static_cast<std::size_t>(candidates[std::min(first + i, candidates.size() - 1)]);
    if (subject_.n_words) block_.rows[i] = vectors.codes(row), block_.scales[i] = vectors.scale(row);
    else block_.rows[i] = vectors.read(row, dim, rows_.data() + i * dim);
    block_.reciprocal[i] = reciprocal_.test(row) ? 1.0f : 0.0f;
    block_.in_degree[i] = static_cast<float>(relation.sources.degree(row));
    block_.out_degree[i] = relation.within_one_type() ? static_cast<float>(relation.targets.degree(row)) : 0.0f;
  }
  const std::size_t count = std::min(size, candidates.size() - first);
  for (std::size_t path = 0; path < kPaths; ++path) {
    float* const values = block_.paths[path];
    if (!with_paths_) {
      std::fill_n(values, size, 0.0f);
      continue;
    }
    std::copy_n(paths_.counted(path).data() + first, count, values);
    std::fill(values + count, values + size, values[count - 1]);
  }
  for (std::size_t i = first + size; i < std::min(first + 2 * size, candidates.size()); ++i) {
    const auto row = static_cast<std::size_t>(candidates[i]);
    relation.sources.fetch_ends(row), relation.targets.fetch_ends(row);
    relation.target->vectors.fetch(row);
  }
}

// Calls `each` with the kernel, the first candidate of a block and how many it has, when the block's features are made.
template <class Each>
void Rescorer::for_each_block(const Relation& relation, const User& user, std::span<const std::int32_t> candidates,
                              bool with_paths, Each each) {
  if (candidates.empty()) return;
  const Kernel& with = kernel();
  prepare(relation, user);
  with_paths_ = with_paths;
  if (with_paths) paths_.count(relation, user.row, user.targets, user.followers, user.elsewhere, candidates);
  columns_.resize(subject_.dim * with.block);
  products_.resize((subject_.queries() + 2 * Subject::kPlanes) * with.block);
  features_.resize(kFeatures * with.block);
  block_.dim = subject_.dim;
  block_.columns = columns_.data(), block_.products = products_.data() + 2 * Subject::kPlanes * with.block, block_.features = features_.data();
  reciprocal_.reserve(relation.target->size());
  const Marked reciprocal(reciprocal_, user.followers);
  for (std::size_t first = 0; first < candidates.size(); first += with.block) {
    fill(relation, candidates, first, with.block);
    with.features(subject_, block_);
    each(with, first, std::min(with.block, candidates.size() - first));
  }
}

void Rescorer::features(const Relation& relation, const User& user, std::span<const std::int32_t> candidates,
                        Matrix<float> out) {
  paths_.walk_back(relation, user.targets);
  for_each_block(relation, user, candidates, true, [&](const Kernel& with, std::size_t first, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t f = 0; f < kFeatures; ++f) out.row(first + i)[f] = block_.features[f * with.block + i];
  });
}

std::span<const Reached> Rescorer::of_neighbours(const Relation& relation, Neighbours neighbours, const User& user,
                                                 const Unwanted& unwanted) {
  paths_.walk_back(relation, user.targets);
  return likeliest(relation, neighbours, user, unwanted);
}

// The same, once the walk has come back.
std::span<const Reached> Rescorer::likeliest(const Relation& relation, Neighbours neighbours, const User& user,
                                             const Unwanted& unwanted) {
  likeliest_.clear();
  for (const Reached& one : paths_.reached(relation, user.row, neighbours.users))
    if (!unwanted.has(static_cast<std::size_t>(one.row))) likeliest_.push_back(one);
  const auto end = likeliest_.begin() + static_cast<std::ptrdiff_t>(std::min(neighbours.candidates, likeliest_.size()));
  std::partial_sort(likeliest_.begin(), end, likeliest_.end(), likelier);
  likeliest_.erase(end, likeliest_.end());
  return likeliest_;
}

void Rescorer::add_neighbours(std::span<const Reached> some, const Relation& relation, std::vector<std::int32_t>& candidates) {
  added_.clear();
  among_.reserve(relation.target->size());
  {
    const Marked among(among_, std::span<const std::int32_t>(candidates));
    for (const Reached& one : some)
      if (!among_.test(static_cast<std::size_t>(one.row))) added_.push_back(one.row);
  }
  candidates.insert(candidates.end(), added_.begin(), added_.end());
}

void Rescorer::score(const Relation& relation, const Network& network, Neighbours neighbours, const User& user,
                     const Unwanted& unwanted, std::vector<std::int32_t>& candidates, std::vector<float>& scores) {
  if (neighbours.users || network.counts_paths) paths_.walk_back(relation, user.targets);
  if (neighbours.users) add_neighbours(likeliest(relation, neighbours, user, unwanted), relation, candidates);
  scores.resize(candidates.size());
  float of_block[kMostBlock];
  const auto each = [&](const Kernel& with, std::size_t first, std::size_t count) {
    with.network(network, block_, of_block);
    std::copy_n(of_block, count, scores.begin() + static_cast<std::ptrdiff_t>(first));
  };
  for_each_block(relation, user, candidates, network.counts_paths, each);
}

}  // namespace twhin
