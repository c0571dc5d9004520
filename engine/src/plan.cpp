// Targets, interests and exclusions of one request.
#include "plan.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>

namespace twhin {
namespace {

bool inside(std::int64_t row, std::size_t size) { return row >= 0 && static_cast<std::size_t>(row) < size; }

void sort_distinct(std::vector<std::int32_t>& rows) {
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
}

}  // namespace

void Plan::make(const Space& of, const Relation& by, const Strategy& with, const Request& asked) {
  space = &of, relation = &by, strategy = &with, request = asked;
  popular = stored = false, fallback = Fallback::none;
  if (!inside(request.user, relation->source->size())) request.user = -1;
  own_ = {};
  if (known()) own_ = relation->source->embedding(static_cast<std::size_t>(request.user), own_row_);
  current_targets(*relation, targets);
  find_evidence();
  find_followers();
  find_elsewhere();
  modes.clear();
  if (request.modes) find_modes();
  exclude();
  move_weights();
  if (popular) modes.clear();
  stored = !modes.empty() && strategy->list_rows.rows > 0;
  if (stored && weights.mode == 0) weights.mode = 1.0;
}

void Plan::forget() {
  unwanted_.forget();
  excluded.clear();
}

// Training edges, plus what was added, less what was removed; ascending and distinct.
void Plan::current_targets(const Relation& of, std::vector<std::int32_t>& out) {
  const std::size_t size = of.target->size();
  out.clear();
  if (known())
    for (const std::int32_t row : of.targets.row(static_cast<std::size_t>(request.user)))
      if (inside(row, size)) out.push_back(row);
  if (!request.edges.rows) return;
  const auto number = std::find(space->relations.begin(), space->relations.end(), &of) - space->relations.begin();
  live_.clear();
  bool touched = false;
  for (std::size_t i = 0; i < request.edges.rows; ++i) {
    const auto edge = request.edges.row(i);
    if (edge[0] != number || !inside(edge[2], size)) continue;
    touched = true;
    (edge[1] ? out : live_).push_back(static_cast<std::int32_t>(edge[2]));
  }
  if (!touched) return;
  sort_distinct(out);
  sort_distinct(live_);
  std::erase_if(out, [&](std::int32_t row) { return std::binary_search(live_.begin(), live_.end(), row); });
}

// Who stands for the user: the targets of the relation asked for, or, when there is none, those of the others.
void Plan::find_evidence() {
  evidence_.clear();
  for (const std::int32_t row : targets) evidence_.push_back({relation->target, row});
  if (!targets.empty()) return;
  for (const Relation* other : space->relations) {
    if (other == relation || other->source != relation->source) continue;
    current_targets(*other, others_);
    for (const std::int32_t row : others_) evidence_.push_back({other->target, row});
  }
}

void Plan::find_followers() {
  followers.clear();
  if (!relation->within_one_type()) return;
  const std::size_t size = relation->target->size();
  if (known())
    for (const std::int32_t row : relation->sources.row(static_cast<std::size_t>(request.user)))
      if (inside(row, size)) followers.push_back(row);
  if (request.followers.empty()) return;
  for (const std::int64_t row : request.followers)
    if (inside(row, size)) followers.push_back(static_cast<std::int32_t>(row));
  sort_distinct(followers);
}

// What the user has by other relations: each once, with the sum of what these say, added in their order.
void Plan::find_elsewhere() {
  elsewhere.clear(), shares.clear(), recencies.clear();
  const Weights& asked = strategy->weights;
  if (relation->elsewhere.empty() || (asked.elsewhere <= 0 && asked.recency <= 0 && !strategy->network.counts_paths)) return;
  telling_.clear();
  for (const Telling& other : relation->elsewhere) {
    current_targets(*other.by, others_);
    const bool dated = !other.by->times.empty();
    if (dated) find_dated(*other.by);
    for (const std::int32_t row : others_)
      telling_.push_back({row, other.share, dated ? time_of(*other.by, row) : 0, other.by->clock, dated, 0});
  }
  find_newer();
  if (relation->elsewhere.size() > 1)
    std::stable_sort(telling_.begin(), telling_.end(), [](auto& a, auto& b) { return a.row < b.row; });
  for (const Told& one : telling_) {
    if (elsewhere.empty() || elsewhere.back() != one.row)
      elsewhere.push_back(one.row), shares.push_back(one.share), recencies.push_back(one.recency);
    else shares.back() += one.share, recencies.back() += one.recency;
  }
}

// The recency of each of these engagements: its share over one and the number of newer ones on its clock.
void Plan::find_newer() {
  by_time_.clear();
  for (std::size_t i = 0; i < telling_.size(); ++i)
    if (telling_[i].dated) by_time_.push_back(i);
  std::sort(by_time_.begin(), by_time_.end(), [&](std::size_t a, std::size_t b) {
    const Told &one = telling_[a], &other = telling_[b];
    return one.clock != other.clock ? one.clock < other.clock : one.time > other.time;
  });
  std::size_t first = 0, newer = 0;
  for (std::size_t i = 0; i < by_time_.size(); ++i) {
    const Told& before = telling_[by_time_[i ? i - 1 : 0]];
    Told& one = telling_[by_time_[i]];
    if (one.clock != before.clock) first = newer = i;
    else if (one.time != before.time) newer = i;
    one.recency = one.share * (1.0f / static_cast<float>(1 + newer - first));
  }
}

// The heaviest interests among the relation's targets: the stored mixture, or eq. 3 of the paper again where live edges have changed the counts.
void Plan::find_modes() {
  const std::size_t wanted = std::min(request.modes, space->modes);
  const Mixtures& stored = *relation->mixtures;
  if (relation->source != stored.of || !known() || request.changed) {
    counted_.clear();
    for (const Relation* one : space->relations)
      if (one->source == relation->source && one->mixtures == &stored && !one->target->assignment.empty()) count_clusters(*one);
    if (space->half_life > 0) fade();
    heaviest_clusters(wanted);
    return;
  }
  const auto row = static_cast<std::size_t>(request.user);
  const auto clusters = stored.clusters.row(row);
  const std::size_t first = stored.clusters.begin_of(row);
  float sum = 0;
  for (std::size_t i = 0; i < std::min(wanted, clusters.size()); ++i) {
    if (!inside(clusters[i], space->centroids.rows)) continue;
    modes.push_back({clusters[i], stored.shares[first + i]});
    sum += modes.back().share;
  }
  if (wanted < clusters.size())
    for (Mode& mode : modes) mode.share /= sum;
}

// Adds what each engagement by a relation counts for its target's cluster.
void Plan::count_clusters(const Relation& of) {
  const auto factor = static_cast<float>(of.counts);
  current_targets(of, others_);
  const auto trained = known() ? of.targets.row(static_cast<std::size_t>(request.user)) : std::span<const std::int32_t>{};
  const std::size_t first = known() ? of.targets.begin_of(static_cast<std::size_t>(request.user)) : 0;
  const bool weighted = of.counts_weights && !of.weights.empty(), ageing = space->half_life > 0 && !of.times.empty();
  if (ageing) find_dated(of);
  for (const std::int32_t row : others_) {
    float count = factor;
    if (weighted) {  // an edge that is newer than the version has no weight of its own
      const auto at = std::lower_bound(trained.begin(), trained.end(), row);
      if (at != trained.end() && *at == row) count *= of.weights[first + static_cast<std::size_t>(at - trained.begin())];
    }
    const std::int64_t time = ageing ? time_of(of, row) : kNoTime;
    const std::int32_t cluster = of.target->cluster_of(static_cast<std::size_t>(row));
    if (inside(cluster, space->centroids.rows)) counted_.push_back({cluster, count, time, of.clock});
  }
}

// When the user engaged with a target last, of a relation that has times; `dated_` has what was added live by it.
std::int64_t Plan::time_of(const Relation& of, std::int32_t row) const {
  std::int64_t time = INT64_MIN;
  if (known()) {
    const auto user = static_cast<std::size_t>(request.user);
    const auto trained = of.targets.row(user);
    const auto at = std::lower_bound(trained.begin(), trained.end(), row);
    if (at != trained.end() && *at == row) time = of.times[of.targets.begin_of(user) + static_cast<std::size_t>(at - trained.begin())];
  }
  auto live = std::lower_bound(dated_.begin(), dated_.end(), row, [](const Dated& one, std::int32_t wanted) { return one.row < wanted; });
  for (; live != dated_.end() && live->row == row; ++live) time = std::max(time, live->time);
  return time;
}

// When what was added live by a relation was, by row.
void Plan::find_dated(const Relation& of) {
  const auto number = std::find(space->relations.begin(), space->relations.end(), &of) - space->relations.begin();
  dated_.clear();
  for (std::size_t i = 0; i < request.edges.rows; ++i) {
    const auto edge = request.edges.row(i);
    if (edge[0] == number && edge[1] && inside(edge[2], of.target->size()))
      dated_.push_back({static_cast<std::int32_t>(edge[2]), edge[3]});
  }
  std::sort(dated_.begin(), dated_.end(), [](const Dated& a, const Dated& b) { return a.row < b.row; });
}

// 2^(-age / half-life), counted back from the newest that counts at all, clock by clock: see recommend/ages.py.
void Plan::fade() {
  newest_.clear();
  const auto newest_on = [&](std::int64_t clock) -> std::int64_t& {
    for (auto& one : newest_)
      if (one.clock == clock) return one.time;
    newest_.push_back({clock, INT64_MIN});
    return newest_.back().time;
  };
  const auto ages = [](const Counted& one) { return one.time != kNoTime && one.count > 0; };
  for (const Counted& one : counted_)
    if (ages(one)) newest_on(one.clock) = std::max(newest_on(one.clock), one.time);
  for (Counted& one : counted_) {
    if (!ages(one)) continue;
    const double age = static_cast<double>(newest_on(one.clock)) - static_cast<double>(one.time);
    one.count *= std::exp2(-(age / space->half_life));
  }
}

// Eq. 3: the heaviest clusters and their shares; ties go to the lower cluster.
void Plan::heaviest_clusters(std::size_t wanted) {
  std::stable_sort(counted_.begin(), counted_.end(), [](auto& a, auto& b) { return a.cluster < b.cluster; });
  std::size_t distinct = 0;
  for (const Counted& one : counted_) {
    if (distinct && counted_[distinct - 1].cluster == one.cluster) counted_[distinct - 1].count += one.count;
    else counted_[distinct++] = one;
  }
  counted_.resize(distinct);
  std::stable_sort(counted_.begin(), counted_.end(), [](auto& a, auto& b) { return a.count > b.count; });
  counted_.resize(std::min(distinct, wanted));
  double total = 0;
  for (const Counted& one : counted_) total += one.count;
  if (total <= 0) return;
  for (const Counted& one : counted_) modes.push_back({one.cluster, static_cast<float>(one.count / total)});
}

// Whom the answer must not have: the user's targets, who was named, and the user.
void Plan::exclude() {
  const std::size_t size = relation->target->size();
  unwanted_.begin(size, request.eligible);
  excluded.clear();
  const auto add = [&](std::int64_t row) {
    if (inside(row, size) && !unwanted_.add(static_cast<std::size_t>(row)))
      excluded.push_back(static_cast<std::int32_t>(row));
  };
  if (request.exclude_seen)
    for (const std::int32_t row : targets) add(row);
  for (const std::int64_t row : request.unwanted) add(row);
  if (relation->within_one_type() && known()) add(request.user);
}

std::size_t Plan::left() const {
  if (request.eligible.empty()) return relation->target->size() - excluded.size();
  std::size_t count = 0;
  for (const std::uint8_t byte : request.eligible) count += static_cast<std::size_t>(std::popcount(byte));
  for (const std::int32_t row : excluded) count -= unwanted_.eligible(static_cast<std::size_t>(row));
  return count;
}

// Where a term has nothing to stand on, its weight moves: see recommend/queries.py.
void Plan::move_weights() {
  const Weights& asked = strategy->weights;
  weights = asked;
  if (strategy->merge == Merge::popular) {
    popular = true;
    return;
  }
  const bool engaged = !evidence_.empty();
  if (!known() && !engaged) {
    popular = true, fallback = Fallback::popular;
    return;
  }
  if (modes.empty()) (engaged ? weights.fold_in : weights.user) += weights.mode, weights.mode = 0;
  if (!known()) weights.fold_in += weights.user, weights.user = 0;
  if (!engaged) weights.user += weights.fold_in, weights.fold_in = 0;
  if (weights.fold_in > asked.fold_in) fallback = Fallback::fold_in;
  else if (weights.user > asked.user) fallback = Fallback::user_vector;
}

}  // namespace twhin
