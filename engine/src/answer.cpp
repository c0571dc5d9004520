// The steps of recommend/slate.py over the engine's plan.
#include "answer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "kernels.h"

namespace twhin {
namespace {

constexpr std::size_t kMostWithBonus = 4096;  // of more followers only the most popular get their bonus, of more that the user has elsewhere those that gain most
constexpr float kFinest = 1000.0f;  // see recommend/elsewhere.py

// What is no number comes last: an order with it in would be none.
float sortable(float score) { return std::isnan(score) ? -std::numeric_limits<float>::infinity() : score; }

}  // namespace

Outcome Answer::begin(Matrix<float> queries) {
  slate_.clear();
  fallback_ = plan.fallback, searched_ = false;
  if (plan.popular) return fill_up() ? Outcome::answered : Outcome::not_covered;
  if (plan.stored && from_lists()) return fill_up() ? Outcome::answered : Outcome::not_covered;
  plan.build_queries(queries);
  return Outcome::search;
}

Outcome Answer::finish(Matrix<const float> queries, std::span<const std::int32_t> rows, std::span<const float> scores,
                       std::span<const std::int64_t> ends) {
  if (ends.size() != plan.query_count() || queries.rows < ends.size() || rows.size() != scores.size() ||
      queries.columns != plan.relation->target->vectors.columns())
    throw std::invalid_argument("the searcher's answers do not fit the queries");
  slate_.clear();
  searched_ = true;
  fallback_ = plan.stored && plan.fallback == Fallback::none ? Fallback::deeper_search : plan.fallback;
  lists_.clear();
  std::int64_t begin = 0;
  for (const std::int64_t end : ends) {
    if (end < begin || static_cast<std::size_t>(end) > rows.size()) throw std::invalid_argument("an answer has no end");
    const auto from = static_cast<std::size_t>(begin), count = static_cast<std::size_t>(end - begin);
    lists_.push_back({rows.subspan(from, count), scores.subspan(from, count)});
    begin = end;
  }
  const auto size = static_cast<std::uint32_t>(plan.relation->target->size());
  if (std::any_of(rows.begin(), rows.end(), [&](std::int32_t row) { return static_cast<std::uint32_t>(row) >= size; }))
    throw std::invalid_argument("the searcher found a row that is not there");
  add_bonuses(queries, !rescores());
  if (rescores())
    for (std::size_t list = 0; list < lists_.size(); ++list) rescore(list);
  merge();
  return fill_up() ? Outcome::answered : Outcome::not_covered;
}

bool Answer::rescores() const { return plan.strategy->pool && !plan.targets.empty(); }

Matrix<float> Answer::room_for_queries() {
  const std::size_t width = plan.relation->target->vectors.columns();
  queries_.resize(plan.query_count() * width);
  return {queries_.data(), plan.query_count(), width};
}

Outcome Answer::search(const Searcher& index, float depth, float refine) {
  const Matrix<float> queries = room_for_queries();
  const Outcome at_once = begin(queries);
  if (at_once != Outcome::search) return at_once;
  if (!std::all_of(queries_.begin(), queries_.end(), [](float value) { return std::isfinite(value); }))
    return Outcome::not_covered;
  const std::size_t n = queries.rows, k = std::min(plan.reach(), index.size());
  if (k == 0) return Outcome::not_covered;
  hits_.resize(n * k), places_.resize(n), found_.resize(n), ends_.clear(), found_rows_.clear(), found_scores_.clear();
  for (std::size_t i = 0; i < n; ++i) places_[i] = hits_.data() + i * k;
  asks_.assign(n, {k, depth, refine, plan.request.eligible.empty() ? nullptr : plan.request.eligible.data(), plan.excluded, !rescores()});
  index.search({queries.data, n, queries.columns}, asks_, places_, found_);
  for (std::size_t i = 0; i < n; ++i) {
    for (const Hit* hit = places_[i]; hit != places_[i] + found_[i]; ++hit)
      found_rows_.push_back(hit->row), found_scores_.push_back(hit->score);
    ends_.push_back(static_cast<std::int64_t>(found_rows_.size()));
  }
  return finish({queries.data, n, queries.columns}, found_rows_, found_scores_, ends_);
}

// The stored lists of the plan's modes; false when exclusions leave them too short to fill the slate.
bool Answer::from_lists() {
  const Strategy& strategy = *plan.strategy;
  lists_.clear();
  for (const Mode& mode : plan.modes) {
    const std::size_t at = static_cast<std::size_t>(mode.cluster) - strategy.list_first;
    if (at >= strategy.list_rows.rows) return false;
    lists_.push_back({strategy.list_rows.row(at), strategy.list_scores.row(at), static_cast<float>(plan.weights.mode)});
  }
  if ((plan.weights.reciprocity > 0 && !plan.followers.empty()) || !plan.elsewhere.empty()) {
    const Matrix<float> queries = room_for_queries();
    plan.build_queries(queries);
    add_bonuses({queries.data, queries.rows, queries.columns}, true);
  }
  merge();
  if (slate_.size() == plan.request.k) return true;
  put_back();
  slate_.clear();
  return false;
}

// Rows that were taken are wanted again.
void Answer::put_back() {
  for (const Pick& pick : slate_) plan.unwanted().remove(static_cast<std::size_t>(pick.row));
}

void Answer::merge() {
  shares_.clear();
  for (const Mode& mode : plan.modes) shares_.push_back(mode.share);
  if (shares_.empty()) shares_.push_back(1.0f);
  merger_.merge(lists_, shares_, plan.request.k, plan.unwanted(), slate_);
}

// Popular candidates for the places that are left. False when the stored ones do not do.
bool Answer::fill_up() {
  const Relation& relation = *plan.relation;
  const std::size_t before = slate_.size();
  const std::size_t wanted = before < plan.request.k ? std::min(plan.request.k, plan.left()) : before;
  for (const std::int32_t row : relation.popular) {
    if (slate_.size() >= wanted) break;
    const auto at = static_cast<std::size_t>(row);
    if (at >= relation.target->size() || !plan.unwanted().take(at)) continue;
    slate_.push_back({row, static_cast<float>(std::log1p(static_cast<double>(relation.sources.degree(at)))), -1});
  }
  if (slate_.size() > before && plan.strategy->merge != Merge::popular) fallback_ = Fallback::popular;
  put_back();
  return slate_.size() >= wanted;
}

Answer::Owned& Answer::owned(std::size_t list) {
  if (owned_.size() < lists_.size()) owned_.resize(lists_.size());
  return owned_[list];
}

// Of very many of `some`, ascending, those that gain most, among equals the most popular; ascending.
void Answer::keep_worthiest(std::vector<Bonus>& some) {
  if (some.size() <= kMostWithBonus) return;
  const auto degree = [&](const Bonus& one) { return plan.relation->sources.degree(static_cast<std::size_t>(one.row)); };
  std::stable_sort(some.begin(), some.end(), [&](const Bonus& a, const Bonus& b) {
    return a.bonus != b.bonus ? a.bonus > b.bonus : degree(a) > degree(b);
  });
  some.resize(kMostWithBonus);
  std::sort(some.begin(), some.end(), [](const Bonus& a, const Bonus& b) { return a.row < b.row; });
}

// What the user gains by having the i-th of `plan.elsewhere`: see recommend/elsewhere.py.
float Answer::gain(std::size_t i) const {
  const float share = std::log1p(kFinest * plan.shares[i]), recency = std::log1p(kFinest * plan.recencies[i]);
  const float bonus = static_cast<float>(plan.weights.elsewhere) * share + static_cast<float>(plan.weights.recency) * recency;
  return bonus > 0 ? bonus : 0;
}

// Candidates that have an edge of the relation to the user, and what the user has by other relations: ascending, each once.
void Answer::find_bonuses() {
  followers_.clear(), elsewhere_.clear(), bonuses_.clear();
  if (plan.weights.reciprocity > 0)
    for (const std::int32_t row : plan.followers)
      if (plan.keeps(row)) followers_.push_back({row, 0});
  for (std::size_t i = 0; i < plan.elsewhere.size(); ++i) {
    const float bonus = gain(i);
    if (bonus > 0 && plan.keeps(plan.elsewhere[i])) elsewhere_.push_back({plan.elsewhere[i], bonus});
  }
  keep_worthiest(followers_), keep_worthiest(elsewhere_);
  auto other = elsewhere_.begin();
  for (Bonus one : followers_) {
    for (; other != elsewhere_.end() && other->row < one.row; ++other) bonuses_.push_back(*other);
    if (other != elsewhere_.end() && other->row == one.row) ++other;
    const auto at = std::lower_bound(plan.elsewhere.begin(), plan.elsewhere.end(), one.row);
    if (at != plan.elsewhere.end() && *at == one.row) one.bonus = gain(static_cast<std::size_t>(at - plan.elsewhere.begin()));
    one.bonus += static_cast<float>(plan.weights.reciprocity);
    bonuses_.push_back(one);
  }
  for (; other != elsewhere_.end(); ++other) bonuses_.push_back(*other);
}

// Where following back counts, or what the user has by other relations, these join every list and the bonus reorders it.
void Answer::add_bonuses(Matrix<const float> queries, bool ordered) {
  if (plan.followers.empty() && plan.elsewhere.empty()) return;
  find_bonuses();
  if (bonuses_.empty()) return;
  with_bonus_.reserve(plan.relation->target->size());
  const Marked marked(with_bonus_, std::span<const Bonus>(bonuses_), &Bonus::row);
  for (std::size_t list = 0; list < lists_.size(); ++list) add_bonuses_to(list, queries.row(list), ordered);
}

void Answer::add_bonuses_to(std::size_t list, std::span<const float> query, bool ordered) {
  scored_.clear();
  const Rows& vectors = plan.relation->target->vectors;
  row_.resize(vectors.columns());
  for (std::size_t i = 0; i < bonuses_.size(); ++i) {
    constexpr std::size_t kAhead = 8;
    if (i + kAhead < bonuses_.size()) vectors.fetch(static_cast<std::size_t>(bonuses_[i + kAhead].row));
    const float score = vectors.dot(static_cast<std::size_t>(bonuses_[i].row), query.data(), row_.size(), row_.data());
    scored_.add(bonuses_[i].row, sortable(score + bonuses_[i].bonus));
  }
  const RankedList found = lists_[list];
  std::size_t others = 0;
  for (std::size_t at = 0; at < found.rows.size() && others < plan.reach(); ++at) {
    const std::int32_t row = found.rows[at];
    if (with_bonus_.holds(row) && with_bonus_.test(static_cast<std::size_t>(row))) continue;
    scored_.add(row, sortable(found.factor * found.scores[at]));
    ++others;
  }
  keep_best(list, plan.reach(), ordered);
}

// The list is the best `n` of what is scored; where their order is of use best first, equal scores by row.
void Answer::keep_best(std::size_t list, std::size_t n, bool ordered) {
  scored_.keep_best(n, ordered);
  Owned& kept = owned(list);
  kept.rows.assign(scored_.rows().begin(), scored_.rows().end());
  kept.scores.assign(scored_.scores().begin(), scored_.scores().end());
  lists_[list] = {kept.rows, kept.scores};
}

// The candidates by the network's score, best first; equal scores by row.
void Answer::rescore(std::size_t list) {
  const RankedList found = lists_[list];
  pool_.assign(found.rows.begin(), found.rows.end());
  const User user{plan.request.user, plan.vector(), plan.targets, plan.followers, {plan.elsewhere, plan.shares, plan.recencies}};
  rescorer_.score(*plan.relation, plan.strategy->network, plan.strategy->neighbours, user, plan.unwanted(), pool_, scores_);
  scored_.clear();
  for (std::size_t i = 0; i < pool_.size(); ++i) scored_.add(pool_[i], sortable(scores_[i]));
  // Of one list no more than k are drawn; of several, any may be another's already.
  keep_best(list, lists_.size() == 1 ? plan.request.k : scored_.size(), true);
}

}  // namespace twhin
