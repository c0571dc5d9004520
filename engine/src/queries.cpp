// Query vectors: user·θu + fold_in·mean(θ of u's targets) + mode·v_c + relation·θr, and the popularity column's weight.
#include <algorithm>
#include <stdexcept>

#include "plan.h"

namespace twhin {
namespace {

void add(std::span<float> to, std::span<const float> vector, double weight) {
  const auto factor = static_cast<float>(weight);
  for (std::size_t d = 0; d < vector.size(); ++d) to[d] += factor * vector[d];
}

}  // namespace

void Plan::add_mean(std::span<float> to, double weight) const {
  mean_.assign(to.size(), 0.0f);
  for (std::size_t i = 0; i < evidence_.size(); ++i) {
    constexpr std::size_t kAhead = 8;
    if (i + kAhead < evidence_.size())
      evidence_[i + kAhead].of->vectors.fetch(static_cast<std::size_t>(evidence_[i + kAhead].row));
    add(mean_, evidence_[i].of->embedding(static_cast<std::size_t>(evidence_[i].row), row_), 1.0);
  }
  for (float& value : mean_) value /= static_cast<float>(evidence_.size());
  add(to, mean_, weight);
}

// The mean of the user's own entities in the mode's cluster; the centroid where there are none.
void Plan::add_personal(std::size_t mode, std::span<float> to) const {
  mean_.assign(to.size(), 0.0f);
  std::size_t count = 0;
  for (const Evidence& one : evidence_) {
    const auto row = static_cast<std::size_t>(one.row);
    if (one.of->cluster_of(row) != modes[mode].cluster) continue;
    add(mean_, one.of->embedding(row, row_), 1.0);
    ++count;
  }
  if (!count) return add(to, space->centroids.row(static_cast<std::size_t>(modes[mode].cluster)), weights.mode);
  for (float& value : mean_) value /= static_cast<float>(count);
  add(to, mean_, weights.mode);
}

void Plan::add_mode(std::size_t mode, std::span<float> to) const {
  const auto cluster = static_cast<std::size_t>(modes[mode].cluster);
  switch (strategy->mode_vector) {
    case ModeVector::personal: return add_personal(mode, to);
    case ModeVector::centroid: return add(to, space->centroids.row(cluster), weights.mode);
    case ModeVector::medoid: return add(to, space->medoids.row(cluster), weights.mode);
  }
}

void Plan::build_queries(Matrix<float> out) {
  const std::size_t dim = relation->target->dim;
  if (out.columns != relation->target->vectors.columns() || out.rows < query_count())
    throw std::invalid_argument("the queries do not fit the vectors or the modes");
  const auto first = out.row(0);
  std::fill(first.begin(), first.end(), 0.0f);
  add(first, relation->forward, weights.relation);
  if (weights.user != 0 && known()) add(first, vector(), weights.user);
  if (weights.fold_in != 0 && !evidence_.empty()) add_mean(first.first(dim), weights.fold_in);
  if (out.columns > dim) first[dim] = static_cast<float>(weights.popularity);
  for (std::size_t mode = 1; mode < query_count(); ++mode) std::copy(first.begin(), first.end(), out.row(mode).begin());
  if (modes.empty() || weights.mode == 0) return;
  for (std::size_t mode = 0; mode < modes.size(); ++mode) add_mode(mode, out.row(mode).first(dim));
}

}  // namespace twhin
