// Largest-remainder merging of ranked lists.
#include "merge.h"

#include <algorithm>
#include <limits>

namespace twhin {

// Splits k among the modes that are alive: the parts sum to k, none is a whole candidate away from its exact share, and equal
// remainders go to the heavier, then to the earlier mode.
void Merger::split(std::span<const float> shares, std::size_t k) {
  const auto share = [&](std::size_t mode) { return shares[mode] > 0 ? shares[mode] : 0.0f; };  // a damaged file has any
  double total = 0;
  for (const std::size_t mode : alive_) total += share(mode);
  const bool alike = alive_.size() == 1 || !(total > 0 && total < std::numeric_limits<double>::infinity());
  std::size_t left = k;
  for (const std::size_t mode : alive_) {
    Reader& reader = readers_[mode];
    reader.exact = static_cast<double>(k) * (alike ? 1.0 / static_cast<double>(alive_.size()) : share(mode) / total);
    reader.budget = static_cast<std::size_t>(reader.exact);
    left -= std::min(left, reader.budget);
  }
  order_ = alive_;
  std::stable_sort(order_.begin(), order_.end(), [&](std::size_t a, std::size_t b) {
    const double of_a = static_cast<double>(readers_[a].budget) - readers_[a].exact;
    const double of_b = static_cast<double>(readers_[b].budget) - readers_[b].exact;
    return of_a != of_b ? of_a < of_b : share(a) > share(b);
  });
  for (std::size_t i = 0; i < std::min(left, order_.size()); ++i) ++readers_[order_[i]].budget;
}

void Merger::take(const RankedList& list, std::size_t mode, Unwanted& taken) {
  Reader& reader = readers_[mode];
  while (reader.budget && reader.next < list.rows.size()) {
    const std::size_t at = reader.next++;
    if (!taken.holds(list.rows[at]) || !taken.take(static_cast<std::size_t>(list.rows[at]))) continue;
    drawn_[mode].push_back({list.rows[at], list.factor * list.scores[at], static_cast<std::int32_t>(mode)});
    --reader.budget;
  }
}

// Each round splits the places that are left among the modes that are not dry. A round ends with every place taken or with one
// more mode dry, so there are no more rounds than modes.
void Merger::draw(std::span<const RankedList> lists, std::span<const float> shares, std::size_t k, Unwanted& taken) {
  readers_.assign(lists.size(), {});
  if (drawn_.size() < lists.size()) drawn_.resize(lists.size());
  for (std::size_t mode = 0; mode < lists.size(); ++mode) drawn_[mode].clear();
  alive_.clear();
  for (std::size_t mode = 0; mode < lists.size(); ++mode) alive_.push_back(mode);
  std::size_t left = k;
  while (!alive_.empty() && left) {
    split(shares, left);
    for (const std::size_t mode : alive_) take(lists[mode], mode, taken);
    left = k;
    for (std::size_t mode = 0; mode < lists.size(); ++mode) left -= drawn_[mode].size();
    std::erase_if(alive_, [&](std::size_t mode) { return readers_[mode].next >= lists[mode].rows.size(); });
  }
}

// The modes alternate, so that every prefix of the slate keeps their proportions: mode i's candidate number j stands at
// (j + ½) / count of i; ties: the heavier mode first.
void Merger::alternate(std::vector<Pick>& slate) {
  placed_.clear();
  std::size_t number = 0;
  for (std::size_t mode = 0; mode < readers_.size(); ++mode)
    for (std::size_t j = 0; j < drawn_[mode].size(); ++j)
      placed_.push_back({(static_cast<double>(j) + 0.5) / static_cast<double>(drawn_[mode].size()), number++});
  std::sort(placed_.begin(), placed_.end(), [](const Placed& a, const Placed& b) {
    return a.place != b.place ? a.place < b.place : a.number < b.number;
  });
  const std::size_t first = slate.size();
  slate.resize(first + placed_.size());
  number = 0;
  order_.resize(placed_.size());
  for (std::size_t at = 0; at < placed_.size(); ++at) order_[placed_[at].number] = first + at;
  for (std::size_t mode = 0; mode < readers_.size(); ++mode)
    for (const Pick& pick : drawn_[mode]) slate[order_[number++]] = pick;
}

void Merger::merge(std::span<const RankedList> lists, std::span<const float> shares, std::size_t k, Unwanted& taken,
                   std::vector<Pick>& slate) {
  draw(lists, shares, k, taken);
  if (lists.size() > 1) return alternate(slate);
  if (!lists.empty()) slate.insert(slate.end(), drawn_[0].begin(), drawn_[0].end());
}

}  // namespace twhin
