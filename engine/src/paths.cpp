// Reading the lists of a user's neighbours, and those of the candidates, once each.
#include "paths.h"

#include <algorithm>
#include <cmath>

namespace twhin {
namespace {

void fetch(std::span<const std::int32_t> list) {  // the beginning: the processor fetches what follows by itself
  for (std::size_t i = 0; i < std::min<std::size_t>(list.size(), 64); i += 16) __builtin_prefetch(list.data() + i);
}

}  // namespace

// Those of `rows` whose lists are read: all, or the ones with the shortest, kMostRead entries together.
std::span<const std::int32_t> PathCounter::shortest(const Csr& lists, std::span<const std::int32_t> rows) {
  const auto length = [&](std::int32_t row) { return lists.row(static_cast<std::size_t>(row)).size(); };
  std::size_t total = 0;
  for (const std::int32_t row : rows) lists.fetch_ends(static_cast<std::size_t>(row));
  for (const std::int32_t row : rows) total += length(row);
  if (total <= kMostRead) return rows;
  order_.resize(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) order_[i] = static_cast<std::int32_t>(i);
  std::stable_sort(order_.begin(), order_.end(), [&](std::int32_t a, std::int32_t b) {
    return length(rows[static_cast<std::size_t>(a)]) < length(rows[static_cast<std::size_t>(b)]);
  });
  std::size_t count = 0;
  for (total = 0; count < order_.size(); ++count)
    if ((total += length(rows[static_cast<std::size_t>(order_[count])])) > kMostRead) break;
  std::sort(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(count));  // sums are taken in the order of the rows
  chosen_.resize(count);
  for (std::size_t i = 0; i < count; ++i) chosen_[i] = rows[static_cast<std::size_t>(order_[i])];
  return chosen_;
}

std::span<const std::int32_t> PathCounter::marked(const Bitmap& bits, std::span<const std::int32_t> list) {
  if (hits_.size() < list.size() + Bitmap::kSlack) hits_.resize(list.size() + Bitmap::kSlack);
  return {hits_.data(), bits.marked(list, hits_.data())};
}

// How many lists of the middles hold each candidate (unless `counts` is null), and the sum of one over these lists' lengths.
void PathCounter::two_steps(const Csr& second, std::span<const std::int32_t> middles, float* counts, float* damped) {
  const auto some = shortest(second, middles);
  for (std::size_t i = 0; i < some.size(); ++i) {
    if (i + 2 < some.size()) fetch(second.row(static_cast<std::size_t>(some[i + 2])));
    const auto list = second.row(static_cast<std::size_t>(some[i]));
    const float share = 1.0f / static_cast<float>(list.size());
    for (const std::int32_t row : marked(wanted_, list)) {
      const auto place = static_cast<std::size_t>(slots_[static_cast<std::size_t>(row)]);
      if (counts) counts[place] += 1.0f;
      damped[place] += share;
    }
  }
}

// Two steps of the walk, u→i←v: what comes to each v, divided by the edges among which v's walkers choose the third.
void PathCounter::walk_back(const Relation& relation, std::span<const std::int32_t> targets) {
  masses_.begin(relation.source->size(), kMostRead);
  const auto some = shortest(relation.sources, targets);
  for (std::size_t i = 0; i < some.size(); ++i) {
    if (i + 2 < some.size()) fetch(relation.sources.row(static_cast<std::size_t>(some[i + 2])));
    const auto list = relation.sources.row(static_cast<std::size_t>(some[i]));
    const float share = 1.0f / static_cast<float>(std::max<std::size_t>(list.size(), 1));
    masses_.add(list, {share, std::sqrt(share)});
  }
  masses_.divide_by_degrees(relation.targets);
}

std::span<const Reached> PathCounter::reached(const Relation& relation, std::int64_t but, std::size_t users) {
  likest_.clear();
  const auto rows = masses_.rows();
  const auto masses = masses_.masses();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Reached one{rows[i], masses[i].plain};
    if ((likest_.size() == users && !likelier(one, likest_.back())) || one.row == but) continue;
    if (likest_.size() == users) likest_.pop_back();
    likest_.insert(std::upper_bound(likest_.begin(), likest_.end(), one, likelier), one);
  }
  likest_rows_.clear();
  for (const Reached& one : likest_) likest_rows_.push_back(one.row);
  reached_.clear();
  for (const std::int32_t row : shortest(relation.targets, likest_rows_))
    for (const std::int32_t target : relation.targets.row(static_cast<std::size_t>(row)))
      if (static_cast<std::uint32_t>(target) < relation.target->size()) reached_.push_back({target, masses_.of(row).plain});
  std::stable_sort(reached_.begin(), reached_.end(), [](const Reached& a, const Reached& b) { return a.row < b.row; });
  std::size_t count = 0;
  for (const Reached& one : reached_)
    if (count && reached_[count - 1].row == one.row) reached_[count - 1].mass += one.mass;
    else reached_[count++] = one;
  reached_.resize(count);
  return reached_;
}

// The third step, v→t, of as many of t's sources as are read.
void PathCounter::walk_on(const Relation& relation, std::span<const std::int32_t> candidates) {
  for (std::size_t c = 0; c < candidates.size(); ++c) {
    if (c + 12 < candidates.size()) relation.sources.fetch_ends(static_cast<std::size_t>(candidates[c + 12]));
    if (c + 5 < candidates.size()) fetch(relation.sources.row(static_cast<std::size_t>(candidates[c + 5])));
    const Mass sum = masses_.sum_of_sample(relation.sources.row(static_cast<std::size_t>(candidates[c])));
    values(8)[c] = sum.plain;
    values(9)[c] = sum.root;
  }
  masses_.forget();
}

void PathCounter::count(const Relation& relation, std::int64_t user, std::span<const std::int32_t> targets,
                        std::span<const std::int32_t> followers, const Elsewhere& elsewhere,
                        std::span<const std::int32_t> candidates) {
  const std::size_t size = relation.target->size();
  candidates_ = candidates.size();
  values_.assign(kPaths * candidates_, 0.0f);
  wanted_.reserve(size);
  slots_.reserve(size);
  for (const std::int32_t row : candidates) {
    relation.sources.fetch_ends(static_cast<std::size_t>(row));
    __builtin_prefetch(&slots_[static_cast<std::size_t>(row)], 1);
  }
  for (std::size_t c = 0; c < candidates.size(); ++c)
    slots_[static_cast<std::size_t>(candidates[c])] = static_cast<std::int32_t>(c);
  const Marked wanted(wanted_, candidates);
  if (relation.within_one_type()) {
    two_steps(relation.targets, targets, values(0).data(), values(4).data());
    two_steps(relation.targets, followers, values(1).data(), values(5).data());
    two_steps(relation.sources, targets, values(2).data(), values(6).data());
    two_steps(relation.sources, followers, values(3).data(), values(7).data());
  }
  if (user >= 0)
    for (const Way& way : relation.ways)
      two_steps(*way.second, way.first->row(static_cast<std::size_t>(user)), nullptr, values(10).data());
  for (std::size_t i = 0; i < elsewhere.rows.size(); ++i) {
    const auto row = static_cast<std::size_t>(elsewhere.rows[i]);
    if (!wanted_.test(row)) continue;
    const auto place = static_cast<std::size_t>(slots_[row]);
    values(11)[place] = elsewhere.shares[i];
    values(12)[place] = elsewhere.recencies[i];
  }
  walk_on(relation, candidates);
}

namespace {

struct Step {  // an edge of a relation, along it or against it
  const Entities* to;
  bool along;
  const Relation* by;
};

std::vector<Step> steps_from(const Space& space, const Entities* type) {
  std::vector<Step> steps;
  for (const Relation* relation : space.relations) {
    if (relation->source == type) steps.push_back({relation->target, true, relation});
    if (relation->target == type && !relation->symmetric) steps.push_back({relation->source, false, relation});
  }
  return steps;
}

}  // namespace

void find_ways(const Space& space, Relation& relation) {
  relation.ways.clear();
  const auto last = steps_from(space, relation.target);
  for (const Step& first : steps_from(space, relation.source))
    for (const Step& turned : last) {
      if (relation.ways.size() == kMostWays) return;
      if (first.to != turned.to || (first.by == &relation && turned.by == &relation)) continue;
      relation.ways.push_back({first.along ? &first.by->targets : &first.by->sources,
                               turned.along ? &turned.by->sources : &turned.by->targets});
    }
}

}  // namespace twhin
