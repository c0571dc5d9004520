// Versions with anything in their files, and whatever may be asked of them: run under the sanitizers by test_fuzz.py. Shapes are
// sound, as `handles.cpp` sees to; contents are not. Every array is as long as it must be, so that a read past its end is seen.
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <memory>
#include <new>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "answer.h"
#include "level.h"
#include "paths.h"

using namespace twhin;

namespace {

long memory_for = -1;  // allocations until there is no more; −1: there is always more

void* allocated(std::size_t size) {
  if (memory_for == 0) throw std::bad_alloc();
  if (memory_for > 0) --memory_for;
  if (void* made = std::malloc(size ? size : 1)) return made;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t size) { return allocated(size); }
// Sorting asks in this way for its buffer, and does without where there is none. Those of arrays come by both as well.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  try {
    return allocated(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void operator delete(void* gone) noexcept { std::free(gone); }
void operator delete(void* gone, std::size_t) noexcept { std::free(gone); }

namespace {

std::mt19937_64 random_bits;
bool sound = true;  // whether rows, clusters, offsets and numbers are what they should be

std::size_t below(std::size_t n) { return random_bits() % n; }
bool rarely() { return below(8) == 0; }

std::int64_t row_of(std::size_t n) {
  if (sound || !rarely()) return static_cast<std::int64_t>(below(n));
  constexpr std::int64_t odd[] = {-1, -7, 1 << 30, std::numeric_limits<std::int32_t>::max(), std::numeric_limits<std::int32_t>::min()};
  return below(2) ? odd[below(5)] : static_cast<std::int64_t>(n + below(3));
}

// Of any size, mostly near each other.
std::int64_t moment() { return rarely() ? static_cast<std::int64_t>(random_bits()) : static_cast<std::int64_t>(below(5000)); }

float number() {
  if (!sound && rarely()) return below(2) ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  return static_cast<float>(static_cast<std::int64_t>(below(2001)) - 1000) / 500.0f;
}

std::vector<float> numbers(std::size_t n) {
  std::vector<float> made(n);
  for (float& one : made) one = number();
  return made;
}

template <class T>
std::vector<T> rows(std::size_t count, std::size_t n) {
  std::vector<T> made(count);
  for (T& one : made) one = static_cast<T>(row_of(n));
  return made;
}

struct Edges {
  std::vector<std::int64_t> indptr{0};
  std::vector<std::int32_t> indices;
  std::vector<float> weights;
  Csr csr() const { return {indptr, indices}; }
};

Edges drawn_edges(std::size_t from, std::size_t to) {
  Edges edges;
  for (std::size_t i = 0; i < from; ++i) {
    const auto some = rows<std::int32_t>(rarely() ? below(700) : below(6), to);
    edges.indices.insert(edges.indices.end(), some.begin(), some.end());
    if (sound) std::sort(edges.indices.end() - static_cast<long>(some.size()), edges.indices.end());
    const bool odd = !sound && rarely();
    edges.indptr.push_back(odd ? static_cast<std::int64_t>(random_bits()) : static_cast<std::int64_t>(edges.indices.size()));
  }
  edges.weights = numbers(edges.indices.size());
  return edges;
}

struct Type {
  std::size_t n, dim, width;
  std::vector<std::int64_t> ids;
  std::vector<std::uint8_t> text;
  std::vector<float> vectors;  // or one of the following in their place
  std::vector<std::uint16_t> halves;
  std::vector<std::uint8_t> coded;
  std::vector<std::int32_t> assignment;
  std::unique_ptr<Ids> handle;
  Entities entities;
};

Rows drawn_vectors(Type& type) {
  const std::size_t form = below(3), tail = type.width - type.dim + 1;
  if (form == 0) {
    type.vectors = numbers(type.n * type.width);
    return Rows(Matrix<const float>{type.vectors.data(), type.n, type.width});
  }
  if (form == 1) {
    for (std::size_t i = 0; i < type.n * type.width; ++i)
      type.halves.push_back(static_cast<std::uint16_t>(sound ? below(2) << 15 | below(0x5000) : random_bits()));
    return Rows(Matrix<const std::uint16_t>{type.halves.data(), type.n, type.width});
  }
  for (std::size_t i = 0; i < type.n; ++i) {
    for (std::size_t j = 0; j < type.dim; ++j) type.coded.push_back(static_cast<std::uint8_t>(random_bits()));
    const auto last = numbers(tail);
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(last.data());
    type.coded.insert(type.coded.end(), bytes, bytes + 4 * tail);
  }
  return Rows(Matrix<const std::uint8_t>{type.coded.data(), type.n, type.dim + 4 * tail}, type.dim);
}

std::unique_ptr<Type> drawn_type(std::size_t dim, std::size_t width, std::size_t clusters) {
  auto type = std::make_unique<Type>();
  type->n = 1 + below(60), type->dim = dim, type->width = width;
  const Rows vectors = drawn_vectors(*type);
  if (below(2)) type->assignment = rows<std::int32_t>(type->n, clusters);
  if (below(2)) {
    for (std::size_t i = 0; i < type->n; ++i) type->ids.push_back(static_cast<std::int64_t>(sound ? i : random_bits()));
    type->handle = std::make_unique<Ids>(std::span<const std::int64_t>(type->ids));
  } else {
    for (std::size_t i = 0; i < 5 * type->n; ++i) type->text.push_back(static_cast<std::uint8_t>(below(256)));
    for (std::size_t i = 0; i <= type->n; ++i) type->ids.push_back(static_cast<std::int64_t>(sound ? 5 * i : random_bits() % 900));
    type->handle = std::make_unique<Ids>(std::span<const std::int64_t>(type->ids), std::span<const std::uint8_t>(type->text));
  }
  type->entities = {type->handle.get(), vectors, dim, type->assignment};
  return type;
}

struct Version {
  std::vector<std::unique_ptr<Type>> types;
  std::vector<Edges> edges;
  std::vector<std::vector<std::int32_t>> popular;
  std::vector<std::vector<std::int64_t>> times;
  std::vector<std::unique_ptr<Relation>> relations;
  std::vector<float> forward, centroids, medoids, list_scores, network, bias, out;
  std::vector<std::int32_t> list_rows;
  Edges modes[2];
  Mixtures mixtures[2];
  Space space;
};

std::unique_ptr<Version> drawn_version() {
  auto made = std::make_unique<Version>();
  const std::size_t dim = 1 + below(40), width = dim + below(2), clusters = 1 + below(6);
  for (std::size_t i = 0; i < 2; ++i) made->types.push_back(drawn_type(dim, width, clusters));
  made->forward = numbers(dim), made->centroids = numbers(clusters * dim), made->medoids = numbers(clusters * dim);
  made->edges.reserve(6), made->popular.reserve(3), made->times.reserve(3);
  for (std::size_t i = 0; i < 2; ++i) {  // the second ones may be of whom no relation leads from
    const Type& of = *made->types[i ? below(2) : 0];
    made->modes[i] = drawn_edges(of.n, clusters);
    made->mixtures[i] = {&of.entities, made->modes[i].csr(), made->modes[i].weights};
  }
  for (const std::size_t target : {0, 1, 0}) {
    const Type& from = *made->types[0];
    const Type& to = *made->types[target];
    made->edges.push_back(drawn_edges(from.n, to.n));
    made->edges.push_back(drawn_edges(to.n, from.n));
    made->popular.push_back(rows<std::int32_t>(below(to.n + 1), to.n));
    const Edges& forth = made->edges[made->edges.size() - 2];
    made->times.emplace_back();
    for (std::size_t i = below(3) ? forth.indices.size() : 0; i > 0; --i) made->times.back().push_back(moment());
    made->relations.push_back(std::make_unique<Relation>(
        Relation{&from.entities, &to.entities, made->forward, forth.csr(), made->edges.back().csr(), forth.weights,
                 made->popular.back(), 0.5, below(2) == 0, below(2) == 0, made->times.back(),
                 static_cast<std::int64_t>(below(2)), &made->mixtures[below(2)], {}}));
  }
  Space& space = made->space;
  space.centroids = {made->centroids.data(), clusters, dim}, space.medoids = {made->medoids.data(), clusters, dim};
  space.modes = 1 + below(5);
  space.half_life = below(2) ? 0.0 : 1.0 + static_cast<double>(below(1000));
  for (auto& relation : made->relations) space.relations.push_back(relation.get());
  for (auto& relation : made->relations) find_ways(space, *relation);
  for (std::size_t i = below(3); i > 0; --i)  // the first and the last are between the same types
    made->relations[0]->elsewhere.push_back({made->relations[below(2) ? 2 : 0].get(), number()});
  const std::size_t length = 1 + below(80), hidden = 1 + below(5);
  made->list_rows = rows<std::int32_t>(clusters * length, made->types[0]->n), made->list_scores = numbers(clusters * length);
  made->network = numbers(kFeatures * hidden), made->bias = numbers(hidden), made->out = numbers(hidden);
  return made;
}

Strategy drawn_strategy(const Version& version) {
  Strategy strategy;
  strategy.merge = static_cast<Merge>(below(3)), strategy.mode_vector = static_cast<ModeVector>(below(3));
  strategy.weights = {number(), number(), number(), number(), number(), number(), number(), number()};
  if (below(2)) {
    const std::size_t clusters = version.space.centroids.rows, length = version.list_rows.size() / clusters;
    strategy.list_rows = {version.list_rows.data(), clusters, length};
    strategy.list_scores = {version.list_scores.data(), clusters, length};
    strategy.list_first = below(2);
  }
  if (below(2)) {
    const std::size_t hidden = version.bias.size();
    strategy.pool = 1 + below(50);
    strategy.network = {hidden, {version.network.data(), kFeatures, hidden}, version.bias, version.out, true};
  }
  return strategy;
}

struct Asked {
  std::vector<std::int64_t> edges, unwanted, followers;
  std::vector<std::uint8_t> eligible;
  Request request;
};

std::unique_ptr<Asked> drawn_request(const Relation& relation) {
  const std::size_t users = relation.source->size(), targets = relation.target->size();
  auto asked = std::make_unique<Asked>();
  for (std::size_t i = below(2) ? below(30) : 0; i > 0; --i)
    for (const std::int64_t one : {row_of(3), static_cast<std::int64_t>(below(2)), row_of(targets), moment()}) asked->edges.push_back(one);
  if (below(2)) asked->unwanted = rows<std::int64_t>(below(targets), targets);
  if (below(2)) asked->followers = rows<std::int64_t>(below(targets), targets);
  if (below(3) == 0)
    for (std::size_t i = 0; i < (targets + 7) / 8; ++i) asked->eligible.push_back(static_cast<std::uint8_t>(random_bits()));
  if (!asked->eligible.empty() && targets % 8) asked->eligible.back() &= static_cast<std::uint8_t>((1 << targets % 8) - 1);
  const std::int64_t user = below(4) ? row_of(users) : -1;
  asked->request = {user, 1 + below(70), below(7), below(4) != 0, below(4) == 0,
                    {asked->edges.data(), asked->edges.size() / 4, 4}, asked->unwanted, asked->followers, asked->eligible};
  return asked;
}

// The answer as JSON; what a searcher finds is drawn by `seed`.
std::string answered(Answer& answer, const Version& version, const Relation& relation, const Strategy& strategy,
                     const Request& request, std::uint64_t seed) {
  const Shape shape{"{\"id\":", ",\"score\":", ",\"mode\":", "}"};
  std::string text = "refused";
  const Planned planned(answer.plan, version.space, relation, strategy, request);
  const std::size_t width = relation.target->vectors.columns(), n = answer.plan.query_count();
  std::vector<float> queries(n * width);
  Outcome outcome = answer.begin({queries.data(), n, width});
  if (outcome == Outcome::search) {
    const auto before = random_bits;
    random_bits.seed(seed);
    std::vector<std::int32_t> found;
    std::vector<float> scores;
    std::vector<std::int64_t> ends;
    for (std::size_t i = 0; i < n; ++i) {
      const auto some = rows<std::int32_t>(below(90), relation.target->size());
      found.insert(found.end(), some.begin(), some.end());
      ends.push_back(static_cast<std::int64_t>(found.size()) + (!sound && rarely() ? row_of(9) : 0));
    }
    std::sort(found.begin(), found.end());  // a searcher repeats no row
    if (n == 1) found.erase(std::unique(found.begin(), found.end()), found.end()), ends = {static_cast<std::int64_t>(found.size())};
    scores = numbers(found.size());
    random_bits = before;
    try {
      outcome = answer.finish({queries.data(), n, width}, found, scores, ends);
    } catch (const std::invalid_argument&) {
    }
  }
  if (outcome == Outcome::answered) text = answer.json(shape);
  return text;
}

// Whether a request for which the memory does not do leaves nothing to the next one.
bool leaves_nothing(const Version& version, const Relation& relation, const Strategy& strategy, const Request& request,
                    std::uint64_t seed, const std::string& expected) {
  const auto before = random_bits;
  Answer answer;
  for (int i = 0; i < 3; ++i) {
    memory_for = static_cast<long>(below(80));
    try {
      answered(answer, version, relation, strategy, request, seed);
    } catch (const std::bad_alloc&) {
    }
    memory_for = -1;
  }
  const std::string after = answered(answer, version, relation, strategy, request, seed);
  random_bits = before;
  if (after != expected) std::fprintf(stderr, "another answer when memory had run out:\n%s\n%s\n", expected.c_str(), after.c_str());
  return after == expected;
}

}  // namespace

int main(int count, char** given) {
  random_bits.seed(count > 1 ? std::strtoull(given[1], nullptr, 10) : 1);
  const long rounds = count > 2 ? std::strtol(given[2], nullptr, 10) : 100;
  std::size_t answers = 0, others = 0;
  Answer answer;
  for (long round = 0; round < rounds; ++round) {
    sound = round % 2 == 0;
    const Level level = kLevels[below(std::size(kLevels))];
    set_level(has(level) ? level : Level::plain);
    const auto version = drawn_version();
    for (int i = 0; i < 40; ++i) {
      const Relation& relation = *version->relations[below(3)];
      const Strategy strategy = drawn_strategy(*version);
      const auto asked = drawn_request(relation);
      const std::uint64_t seed = random_bits();
      const std::string first = answered(answer, *version, relation, strategy, asked->request, seed);
      const std::string again = answered(answer, *version, relation, strategy, asked->request, seed);
      if (first != again) {  // something of the request before was left
        std::fprintf(stderr, "two answers to one request:\n%s\n%s\n", first.c_str(), again.c_str());
        return 1;
      }
      if (rarely() && !leaves_nothing(*version, relation, strategy, asked->request, seed, first)) return 1;
      ++(first == "refused" ? others : answers);
    }
  }
  std::printf("%zu answers, %zu refused or left to Python\n", answers, others);
  return 0;
}
