// Making handles of what a version holds. Shapes are checked here, so that whoever reads by them need not.
#include <memory>
#include <stdexcept>

#include "binding.h"
#include "paths.h"
#include "space.h"
#include "strategy.h"

namespace twhin {
namespace {

std::unique_ptr<Ids> number_ids(std::span<const std::int64_t> values) { return std::make_unique<Ids>(values); }

std::unique_ptr<Ids> text_ids(std::span<const std::int64_t> offsets, std::span<const std::uint8_t> utf8) {
  require(!offsets.empty(), "the offsets of texts have one entry more than there are texts");
  return std::make_unique<Ids>(offsets, utf8);
}

std::int64_t find_id(const Ids& ids, std::span<const std::uint8_t> external) {
  return ids.find({reinterpret_cast<const char*>(external.data()), external.size()});
}

std::unique_ptr<Rows> rows(Matrix<const float> values) { return std::make_unique<Rows>(values); }

std::unique_ptr<Rows> half_rows(Matrix<const std::uint16_t> halves) { return std::make_unique<Rows>(halves); }

std::unique_ptr<Rows> coded_rows(Matrix<const std::uint8_t> coded, std::int64_t dim) {
  return std::make_unique<Rows>(coded, static_cast<std::size_t>(dim));
}

std::unique_ptr<Entities> entities(const Ids& ids, const Rows& vectors, std::int64_t dim,
                                   std::span<const std::int32_t> assignment) {
  require(ids.size() == vectors.size(), "there are not as many ids as vectors");
  require(dim > 0 && static_cast<std::size_t>(dim) <= vectors.columns(), "the embedding has more columns than the vectors");
  require(assignment.empty() || assignment.size() == vectors.size(), "there are not as many clusters as vectors");
  return std::make_unique<Entities>(Entities{&ids, vectors, static_cast<std::size_t>(dim), assignment});
}

std::unique_ptr<Mixtures> mixtures(const Entities& of, std::span<const std::int64_t> indptr,
                                   std::span<const std::int32_t> clusters, std::span<const float> shares) {
  require(indptr.size() == of.size() + 1 && shares.size() == clusters.size(), "the mixtures do not fit");
  return std::make_unique<Mixtures>(Mixtures{&of, {indptr, clusters}, shares});
}

std::unique_ptr<Relation> relation(const Entities& source, const Entities& target, std::span<const float> forward,
                                   std::span<const std::int64_t> targets_indptr, std::span<const std::int32_t> targets,
                                   std::span<const float> weights, std::span<const std::int64_t> sources_indptr,
                                   std::span<const std::int32_t> sources, std::span<const std::int32_t> popular,
                                   double counts, std::int64_t counts_weights, std::int64_t symmetric,
                                   std::span<const std::int64_t> times, std::int64_t clock, const Mixtures& mixtures) {
  require(source.dim == target.dim && forward.size() == target.dim, "the relation's vectors are of several lengths");
  require(targets_indptr.size() == source.size() + 1 && sources_indptr.size() == target.size() + 1,
          "the edges are not those of as many entities");
  require(weights.empty() || weights.size() == targets.size(), "there are not as many weights as edges");
  require(times.empty() || times.size() == targets.size(), "there are not as many times as edges");
  return std::make_unique<Relation>(Relation{&source, &target, forward, {targets_indptr, targets}, {sources_indptr, sources},
                                             weights, popular, counts, counts_weights != 0, symmetric != 0, times, clock, &mixtures, {}, {}});
}

std::unique_ptr<Space> space(Matrix<const float> centroids, Matrix<const float> medoids, std::int64_t modes, double half_life) {
  require(medoids.rows == centroids.rows && medoids.columns == centroids.columns, "a medoid for each centroid is wanted");
  require(modes > 0, "a user has one mode at least");
  require(half_life >= 0, "a half-life is positive");
  auto made = std::make_unique<Space>();
  made->centroids = centroids, made->medoids = medoids;
  made->modes = static_cast<std::size_t>(modes), made->half_life = half_life;
  return made;
}

void add_relation(Space& space, const Relation& relation) {
  require(relation.target->dim == space.centroids.columns, "the relation is of another length than the centroids");
  space.relations.push_back(&relation);
}

void add_elsewhere(Relation& relation, const Relation& other, double share) {
  require(relation.source == other.source && relation.target == other.target, "the other relation is between other types");
  relation.elsewhere.push_back({&other, static_cast<float>(share)});
}

std::unique_ptr<Strategy> strategy(std::int64_t merge, std::int64_t mode_vector, std::span<const double> weights,
                                   Matrix<const std::int32_t> list_rows, Matrix<const float> list_scores,
                                   std::int64_t list_first, std::int64_t pool, std::int64_t neighbours,
                                   std::int64_t of_neighbours, Matrix<const float> network, std::span<const float> bias,
                                   std::span<const float> out) {
  require(merge >= 0 && merge <= 2 && mode_vector >= 0 && mode_vector <= 2, "there is no such way of merging, or of modes");
  require(weights.size() == 8, "a query has eight weights");
  require(list_rows.rows == list_scores.rows && list_rows.columns == list_scores.columns, "a score for each row is wanted");
  require(list_first >= 0, "the first cluster has a number");
  require(pool >= 0 && (pool == 0) == (network.rows == 0), "a pool and a network belong together");
  require(neighbours >= 0 && of_neighbours >= 0 && (neighbours == 0 || pool > 0), "neighbours add to a pool");
  require(network.rows == 0 || network.rows == kFeatures, "the network is for other features");
  require(bias.size() == network.columns && out.size() == network.columns, "the network's arrays do not fit");
  auto made = std::make_unique<Strategy>();
  made->merge = static_cast<Merge>(merge), made->mode_vector = static_cast<ModeVector>(mode_vector);
  made->weights = {weights[0], weights[1], weights[2], weights[3], weights[4], weights[5], weights[6], weights[7]};
  made->list_rows = list_rows, made->list_scores = list_scores, made->list_first = static_cast<std::size_t>(list_first);
  made->pool = static_cast<std::size_t>(pool), made->network = {network.columns, network, bias, out};
  made->neighbours = {static_cast<std::size_t>(neighbours), static_cast<std::size_t>(of_neighbours)};
  for (std::size_t f = kFirstPath; f < network.rows; ++f)
    for (const float weight : network.row(f)) made->network.counts_paths |= weight != 0;
  return made;
}

}  // namespace

TWHIN_EXPORT(number_ids, number_ids, "Ids that are numbers, ascending.");
TWHIN_EXPORT(text_ids, text_ids, "Ids that are texts, ascending by bytes.");
TWHIN_EXPORT(find_id, find_id, "The row of an id given as UTF-8, -1 where there is none.");
TWHIN_EXPORT(rows, rows, "Vectors of float32.");
TWHIN_EXPORT(half_rows, half_rows, "Vectors of float16.");
TWHIN_EXPORT(coded_rows, coded_rows, "Vectors of int8, scaled row by row.");
TWHIN_EXPORT(entities, entities, "Ids, vectors and clusters of one type.");
TWHIN_EXPORT(relation, relation, "A relation's vector and its edges both ways.");
TWHIN_EXPORT(mixtures, mixtures, "The mixtures of one type's entities over the clusters of some targets.");
TWHIN_EXPORT(space, space, "The clusters of a space.");
TWHIN_EXPORT(add_relation, add_relation, "Give a space its next relation, which has to outlive it.");
TWHIN_EXPORT(find_ways, find_ways, "Find the paths of two edges of a relation over others, when a space has them all.");
TWHIN_EXPORT(add_elsewhere, add_elsewhere, "Say that edges of another relation tell of this one.");
TWHIN_EXPORT(strategy, strategy, "Weights, stored lists and network of a strategy.");

}  // namespace twhin
