// Files of an `ivf4` index, sound and damaged, exact search, and whatever may be asked of them: run under the sanitizers by test_fuzz.py.
// Every array is as long as it must be and no longer, so that a read past its end is seen.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "exact.h"
#include "ivf4.h"
#include "ivf4/build.h"
#include "ivf4/layout.h"
#include "level.h"

using namespace twhin;

namespace {

std::mt19937_64 random_bits;

std::size_t below(std::size_t n) { return random_bits() % n; }

struct File {  // bytes at a multiple of 64, as a mapped file lies
  explicit File(std::size_t n) : size(n), bytes(static_cast<std::uint8_t*>(std::aligned_alloc(64, n))) {
    std::memset(bytes.get(), 0, n);
  }
  File(const File& other) : File(other.size) { std::memcpy(bytes.get(), other.bytes.get(), size); }
  std::span<std::uint8_t> span() { return {bytes.get(), size}; }
  struct Free {
    void operator()(std::uint8_t* p) const { std::free(p); }
  };
  std::size_t size;
  std::unique_ptr<std::uint8_t, Free> bytes;
};

struct Index {
  std::size_t rows, width, held, lists;
  std::vector<float> vectors, map;
  std::vector<std::uint16_t> halves;  // rows that are scored in place of the vectors, where there are any
  std::vector<std::uint8_t> coded;
  std::size_t dim = 0;
  Rows scored() const {
    if (!halves.empty()) return Rows(Matrix<const std::uint16_t>{halves.data(), rows, width});
    if (!coded.empty()) return Rows(Matrix<const std::uint8_t>{coded.data(), rows, dim + 4 * (width - dim + 1)}, dim);
    return Rows(Matrix<const float>{vectors.data(), rows, width});
  }
  Matrix<const float> map_matrix() const { return {map.data(), width, held}; }
};

Index drawn() {
  Index index{1 + below(300), 1 + below(40), 16 * (1 + below(4)), 0, {}, {}, {}, {}, 0};
  index.lists = 1 + below(std::min<std::size_t>(index.rows, 20));
  std::normal_distribution<float> normal;
  for (std::size_t i = 0; i < index.rows * index.width; ++i) index.vectors.push_back(normal(random_bits));
  for (std::size_t i = 0; i < index.width * index.held; ++i) index.map.push_back(normal(random_bits) / 4);
  const std::size_t form = below(3);
  for (std::size_t i = 0; form == 1 && i < index.rows * index.width; ++i)  // every finite number of half precision
    index.halves.push_back(static_cast<std::uint16_t>(below(2) << 15 | below(0x7C00)));
  index.dim = 1 + below(index.width);
  for (std::size_t i = 0; form == 2 && i < index.rows; ++i) {
    for (std::size_t j = 0; j < index.dim; ++j) index.coded.push_back(static_cast<std::uint8_t>(random_bits()));
    for (std::size_t j = index.dim; j <= index.width; ++j) {
      const float value = normal(random_bits);
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(&value);
      index.coded.insert(index.coded.end(), bytes, bytes + 4);
    }
  }
  return index;
}

template <class T>
void put(File& file, std::size_t at, const std::vector<T>& values) {
  std::memcpy(file.bytes.get() + at, values.data(), values.size() * sizeof(T));
}

File written(const Index& index) {
  std::vector<float> projected(index.rows * index.held, 0.0F), centroids, squares(index.rows);
  for (std::size_t i = 0; i < index.rows * index.held; ++i) {
    const std::size_t row = i / index.held, column = i % index.held;
    for (std::size_t j = 0; j < index.width; ++j) {
      projected[i] += index.vectors[row * index.width + j] * index.map[j * index.held + column];
    }
  }
  centroids.assign(projected.begin(), projected.begin() + static_cast<long>(index.lists * index.held));
  ivf4::kmeans({projected.data(), index.rows, index.held}, {centroids.data(), index.lists, index.held}, 3, 2);
  const ivf4::Centroids packed({centroids.data(), index.lists, index.held});
  std::vector<std::int32_t> list_of(index.rows);
  packed.nearest({projected.data(), index.rows, index.held}, list_of, 2);
  std::vector<std::uint32_t> first(index.lists + 1), next(index.lists), slots;
  for (const std::int32_t list : list_of) ++next[static_cast<std::size_t>(list)];
  for (std::size_t l = 0; l < index.lists; ++l) first[l + 1] = first[l] + (next[l] + 15) / 16, next[l] = 16 * first[l];
  for (const std::int32_t list : list_of) slots.push_back(next[static_cast<std::size_t>(list)]++);
  const ivf4::Layout layout(index.held, index.lists, first.back());
  File file(layout.end);
  const ivf4::Header header{ivf4::kMagic, index.rows, index.held, index.lists, first.back()};
  std::memcpy(file.bytes.get(), &header, sizeof header);
  put(file, layout.lowest, std::vector<float>(packed.lowest().begin(), packed.lowest().end()));
  put(file, layout.step, std::vector<float>(packed.step().begin(), packed.step().end()));
  put(file, layout.scale, std::vector<float>(index.held, 0.2F));
  put(file, layout.variance, std::vector<float>(index.held, 1.0F));
  put(file, layout.spread, std::vector<float>(index.lists, 1.0F));
  put(file, layout.first_block, first);
  put(file, layout.centroids, std::vector<std::uint8_t>(packed.codes().begin(), packed.codes().end()));
  for (std::size_t b = 0; b < first.back(); ++b) {
    std::memset(file.bytes.get() + layout.blocks + (b + 1) * ivf4::Layout::block_bytes(index.held) - 64, 255, 64);
  }
  ivf4::encode(file.span(), {projected.data(), index.rows, index.held}, list_of, slots, 0, squares, 2);
  return file;
}

void hold(bool good, const char* what) {
  if (!good) std::fprintf(stderr, "not so: %s\n", what), std::exit(1);
}

struct Question {
  std::vector<float> queries;
  std::vector<std::int32_t> excluded;
  std::vector<std::uint8_t> eligible;
  std::size_t n, k;
  float depth, refine;
};

Question asked(const Index& index) {
  const float sizes[] = {0.0F, 1e-38F, 1.0F, 1e18F};
  Question q{{}, {}, {}, 1 + below(11), 1 + below(index.rows), static_cast<float>(below(9)), static_cast<float>(below(5))};
  std::normal_distribution<float> normal;
  const float size = below(4) ? 1.0F : sizes[below(4)];
  for (std::size_t i = 0; i < q.n * index.width; ++i) q.queries.push_back(size * normal(random_bits));
  for (std::size_t i = below(40); i > 0; --i) q.excluded.push_back(static_cast<std::int32_t>(random_bits() % 400) - 50);
  if (below(3) == 0) {
    for (std::size_t i = 0; i < (index.rows + 7) / 8; ++i) q.eligible.push_back(static_cast<std::uint8_t>(random_bits()));
  }
  return q;
}

std::vector<std::vector<Hit>> answers(const Searcher& searcher, const Question& q) {
  std::vector<std::vector<Hit>> hits(q.n, std::vector<Hit>(q.k));
  std::vector<Hit*> places;
  for (auto& one : hits) places.push_back(one.data());
  const Ask ask{q.k, q.depth, q.refine, q.eligible.empty() ? nullptr : q.eligible.data(), q.excluded};
  std::vector<Ask> asks(q.n, ask);
  std::vector<std::size_t> found(q.n);
  searcher.search({q.queries.data(), q.n, searcher.width()}, asks, places, found);
  for (std::size_t i = 0; i < q.n; ++i) {
    hold(found[i] <= q.k, "no more than k");
    hits[i].resize(found[i]);
    for (const Hit& hit : hits[i]) {
      hold(hit.row >= 0 && static_cast<std::size_t>(hit.row) < searcher.size(), "a row that there is");
      hold(std::find(q.excluded.begin(), q.excluded.end(), hit.row) == q.excluded.end(), "none that is excluded");
      hold(q.eligible.empty() || (q.eligible[static_cast<std::size_t>(hit.row) / 8] >> (hit.row % 8) & 1), "eligible");
    }
  }
  return hits;
}

bool same(const std::vector<std::vector<Hit>>& a, const std::vector<std::vector<Hit>>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.size() == y.size() && (x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(Hit)) == 0);
  });
}

std::size_t expected(const Index& index, const Question& q) {  // how many rows may be answered
  std::size_t n = 0;
  for (std::size_t i = 0; i < index.rows; ++i) {
    const bool barred = std::find(q.excluded.begin(), q.excluded.end(), static_cast<std::int32_t>(i)) != q.excluded.end();
    n += !barred && (q.eligible.empty() || (q.eligible[i / 8] >> (i % 8) & 1));
  }
  return std::min(n, q.k);
}

void sound(const Searcher& searcher, const Index& index, const std::vector<Level>& levels) {
  const Question q = asked(index);
  set_level(Level::plain);
  const auto plain = answers(searcher, q);
  for (const auto& hits : plain) hold(hits.size() == expected(index, q), "as many as there are");
  for (const Level level : levels) {
    set_level(level);
    hold(same(answers(searcher, q), plain), "every instruction set gives the same");
  }
  Question one = q;
  one.n = 1;
  hold(same(answers(searcher, one), {plain.front()}), "a query alone is answered as among others");
}

bool damaged(const Index& index, const File& whole, const std::vector<Level>& levels) {  // whether it was opened all the same
  File file(whole);
  const std::size_t reach = below(2) ? file.size : std::min<std::size_t>(file.size, 700);
  for (std::size_t i = 1 + below(8); i > 0; --i) file.bytes.get()[below(reach)] = static_cast<std::uint8_t>(random_bits());
  const std::size_t length = below(5) ? file.size : below(file.size);
  try {
    const Ivf4 ivf4(file.span().first(length), index.map_matrix(), index.scored());
    set_level(levels[below(levels.size())]);
    answers(ivf4, asked(index));
    return true;
  } catch (const std::invalid_argument&) {
    return false;
  }
}

}  // namespace

int main(int, char** arguments) {
  random_bits.seed(std::strtoull(arguments[1], nullptr, 10));
  std::vector<Level> levels;
  for (const Level level : kLevels) {
    if (has(level)) levels.push_back(level);
  }
  std::size_t opened = 0, refused = 0;
  for (int i = std::atoi(arguments[2]); i > 0; --i) {
    const Index index = drawn();
    set_level(Level::plain);
    File file = written(index);
    for (const Level level : levels) {
      set_level(level);
      hold(std::memcmp(written(index).bytes.get(), file.bytes.get(), file.size) == 0, "every instruction set writes the same");
    }
    const Ivf4 ivf4(file.span(), index.map_matrix(), index.scored());
    const Exact exact(index.scored());
    for (int j = 0; j < 4; ++j) sound(ivf4, index, levels), sound(exact, index, levels);
    for (int j = 0; j < 12; ++j) damaged(index, file, levels) ? ++opened : ++refused;
  }
  for (const Level level : levels) std::printf("%s ", std::string(name_of(level)).c_str());
  std::printf("\n%zu opened, %zu refused\n", opened, refused);
  hold(opened > 0 && refused > 0, "some damage is seen and some is not");
}
