// The entry points of a request: a plan, what is known at once, and the answer to what a searcher found.
//
// A reply is twelve bytes and what follows: how it ended (Outcome), the rung that was needed (Fallback), whether fewer than k are
// eligible, whether there was a search, and in 32 bits each how many rows are excluded and how many queries there are; then the candidates'
// JSON or, where they are wanted as rows, these; or the excluded rows.
#include <cstring>
#include <memory>
#include <stdexcept>

#include "answer.h"
#include "binding.h"

namespace twhin {
namespace {

constexpr std::int64_t kExcludeSeen = 1, kChanged = 2, kAsRows = 4;
constexpr std::size_t kHead = 12;

Answer& of_this_thread() {
  static thread_local Answer answer;
  return answer;
}

Request request_of(std::int64_t user, std::int64_t k, std::int64_t modes, std::int64_t flags,
                   Matrix<const std::int64_t> edges, std::span<const std::int64_t> unwanted,
                   std::span<const std::int64_t> followers, std::span<const std::uint8_t> eligible, const Relation& relation) {
  if (!eligible.empty() && eligible.size() != (relation.target->size() + 7) / 8)
    throw std::invalid_argument("the filter is for another number of candidates");
  if (k < 1 || modes < 0) throw std::invalid_argument("at least one candidate is wanted, of no mode or more");
  if (edges.rows && edges.columns != 4) throw std::invalid_argument("an edge is a relation, an effect, a row and a time");
  return {user, static_cast<std::size_t>(k), static_cast<std::size_t>(modes), (flags & kExcludeSeen) != 0,
          (flags & kChanged) != 0, edges, unwanted, followers, eligible};
}

std::string reply(const Answer& answer, Outcome outcome, const Shape& shape, std::int64_t flags) {
  std::string text;
  if (outcome == Outcome::answered) text = flags & kAsRows ? answer.rows() : answer.json(shape);
  const auto& excluded = answer.plan.excluded;
  if (outcome == Outcome::search)
    text.assign(reinterpret_cast<const char*>(excluded.data()), excluded.size() * sizeof excluded[0]);
  char head[kHead] = {static_cast<char>(outcome), static_cast<char>(answer.fallback()), answer.short_of_k(), answer.searched()};
  const std::uint32_t counts[] = {static_cast<std::uint32_t>(excluded.size()),
                                  static_cast<std::uint32_t>(answer.plan.query_count())};
  std::memcpy(head + 4, counts, sizeof counts);
  text.insert(0, head, kHead);
  return text;
}

std::unique_ptr<Shape> shape(std::span<const std::uint8_t> before_id, std::span<const std::uint8_t> before_score,
                             std::span<const std::uint8_t> before_mode, std::span<const std::uint8_t> after) {
  const auto text = [](std::span<const std::uint8_t> bytes) {
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  return std::make_unique<Shape>(Shape{text(before_id), text(before_score), text(before_mode), text(after)});
}

std::string begin(const Space& space, const Relation& relation, const Strategy& strategy, const Shape& shape,
                  std::int64_t user, std::int64_t k, std::int64_t modes, std::int64_t flags,
                  Matrix<const std::int64_t> edges, std::span<const std::int64_t> unwanted,
                  std::span<const std::int64_t> followers, std::span<const std::uint8_t> eligible, Matrix<float> queries) {
  Answer& answer = of_this_thread();
  const Planned planned(answer.plan, space, relation, strategy,
                        request_of(user, k, modes, flags, edges, unwanted, followers, eligible, relation));
  return reply(answer, answer.begin(queries), shape, flags);
}

std::string finish(const Space& space, const Relation& relation, const Strategy& strategy, const Shape& shape,
                   std::int64_t user, std::int64_t k, std::int64_t modes, std::int64_t flags,
                   Matrix<const std::int64_t> edges, std::span<const std::int64_t> unwanted,
                   std::span<const std::int64_t> followers, std::span<const std::uint8_t> eligible,
                   Matrix<const float> queries, std::span<const std::int32_t> rows, std::span<const float> scores,
                   std::span<const std::int64_t> ends) {
  Answer& answer = of_this_thread();
  const Planned planned(answer.plan, space, relation, strategy,
                        request_of(user, k, modes, flags, edges, unwanted, followers, eligible, relation));
  return reply(answer, answer.finish(queries, rows, scores, ends), shape, flags);
}

std::string answer(const Space& space, const Relation& relation, const Strategy& strategy, const Shape& shape,
                   std::int64_t user, std::int64_t k, std::int64_t modes, std::int64_t flags,
                   Matrix<const std::int64_t> edges, std::span<const std::int64_t> unwanted,
                   std::span<const std::int64_t> followers, std::span<const std::uint8_t> eligible, const Searcher& searcher,
                   double depth, double refine) {
  Answer& answer = of_this_thread();
  if (searcher.size() != relation.target->size() || searcher.width() != relation.target->vectors.columns())
    throw std::invalid_argument("the searcher is over other vectors");
  const Planned planned(answer.plan, space, relation, strategy,
                        request_of(user, k, modes, flags, edges, unwanted, followers, eligible, relation));
  return reply(answer, answer.search(searcher, static_cast<float>(depth), static_cast<float>(refine)), shape, flags);
}

void features(const Relation& relation, std::int64_t row, std::span<const float> vector,
              std::span<const std::int32_t> targets, std::span<const std::int32_t> followers,
              std::span<const std::int32_t> elsewhere, std::span<const float> shares,
              std::span<const float> recencies, std::span<const std::int32_t> candidates, Matrix<float> out) {
  const auto inside = [&](std::span<const std::int32_t> rows) {
    for (const std::int32_t row : rows)
      if (row < 0 || static_cast<std::size_t>(row) >= relation.target->size()) return false;
    return true;
  };
  if (!inside(targets) || !inside(followers) || !inside(elsewhere) || !inside(candidates))
    throw std::invalid_argument("a row is not there");
  if (shares.size() != elsewhere.size() || recencies.size() != elsewhere.size())
    throw std::invalid_argument("there are not as many shares as rows");
  if (!vector.empty() && vector.size() != relation.target->dim) throw std::invalid_argument("the vector is of another length");
  if (out.rows != candidates.size() || out.columns != kFeatures) throw std::invalid_argument("the features do not fit");
  static thread_local Rescorer rescorer;
  rescorer.features(relation, {row, vector, targets, followers, {elsewhere, shares, recencies}}, candidates, out);
}

std::int64_t neighbours(const Relation& relation, std::int64_t row, std::span<const std::int32_t> targets, std::int64_t users,
                        std::span<std::int32_t> out) {
  static thread_local Rescorer rescorer;
  static thread_local Unwanted unwanted;
  const std::size_t size = relation.target->size();
  if (users < 1) throw std::invalid_argument("at least one neighbour is wanted");
  if (row >= 0 && static_cast<std::size_t>(row) >= relation.source->size()) throw std::invalid_argument("a row is not there");
  unwanted.forget();  // what a call left that ran out of memory
  unwanted.begin(size, {});
  for (const std::int32_t target : targets) {
    if (target < 0 || static_cast<std::size_t>(target) >= size) throw std::invalid_argument("a row is not there");
    unwanted.add(static_cast<std::size_t>(target));
  }
  if (relation.within_one_type() && row >= 0) unwanted.add(static_cast<std::size_t>(row));
  const User user{row, {}, targets, {}};
  const auto found = rescorer.of_neighbours(relation, {static_cast<std::size_t>(users), out.size()}, user, unwanted);
  for (std::size_t i = 0; i < found.size(); ++i) out[i] = found[i].row;
  unwanted.forget();
  return static_cast<std::int64_t>(found.size());
}

}  // namespace

TWHIN_EXPORT(shape, shape, "What a candidate is written like.");
TWHIN_EXPORT(begin, begin, "The answer that stored lists or popularity give at once, or the queries to search by.");
TWHIN_EXPORT(finish, finish, "The answer from what was found for each query.");
TWHIN_EXPORT(answer, answer, "The answer, searched by the engine itself where that is needed.");
TWHIN_EXPORT(neighbours, neighbours, "What the likest users have that a user has not, the likeliest first.");
TWHIN_EXPORT(features, features, "The rescoring's features of some candidates of a user.");

}  // namespace twhin
