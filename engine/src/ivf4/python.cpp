// What Python calls of `ivf4`. The sizes of arrays that belong together are compared here.
#include <cmath>
#include <memory>
#include <stdexcept>
#include <vector>

#include "binding.h"
#include "ivf4.h"
#include "ivf4/build.h"
#include "ivf4/layout.h"
#include "parallel.h"

namespace twhin::ivf4 {
namespace {

bool finite(Matrix<const float> values) {
  float sum = 0;  // 0 · Inf and 0 · NaN are NaN
  for (std::size_t i = 0; i < values.rows * values.columns; ++i) sum += 0 * values.data[i];
  return sum == 0;
}

std::unique_ptr<Ivf4> open(std::span<const std::uint8_t> file, Matrix<const float> query_map, const Rows& vectors) {
  return std::make_unique<Ivf4>(file, query_map, vectors);
}

// excluded[ends[i-1] .. ends[i]] are those of query i; rows and scores are q × k. Returns nothing: found[i] says how many.
void search(const Ivf4& index, Matrix<const float> queries, double depth, double refine,
            std::span<const std::int32_t> excluded, std::span<const std::int64_t> ends,
            std::span<const std::uint8_t> eligible, Matrix<std::int32_t> rows, Matrix<float> scores,
            std::span<std::int64_t> found) {
  const std::size_t n = queries.rows, k = rows.columns;
  require(queries.columns == index.width(), "the queries have another width than the index");
  require(finite(queries), "a query holds NaN or Inf");
  require(rows.rows == n && scores.rows == n && scores.columns == k && found.size() == n && k >= 1 && k <= index.size(),
          "the answers have no room, or too much");
  require(ends.empty() || ends.size() == n, "give one end of exclusions a query, or none");
  require(eligible.data() == nullptr || eligible.size() == (index.size() + 7) / 8, "the bitmap has another size");
  require(depth >= 0 && depth <= 1e6 && refine >= 0 && refine <= 1e6, "depth and refine are small numbers");
  std::vector<Hit> hits(n * k);
  std::vector<Hit*> places(n);
  std::vector<std::size_t> counts(n);
  std::vector<Ask> asks(n);
  std::int64_t end = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::int64_t start = end;
    end = ends.empty() ? 0 : ends[i];
    require(start <= end && end <= static_cast<std::int64_t>(excluded.size()), "the ends of exclusions do not ascend");
    places[i] = hits.data() + i * k;
    asks[i] = {k, static_cast<float>(depth), static_cast<float>(refine), eligible.data(),
               excluded.subspan(static_cast<std::size_t>(start), static_cast<std::size_t>(end - start))};
  }
  index.search(queries, asks, places, counts);
  for (std::size_t i = 0; i < n; ++i) {
    found[i] = static_cast<std::int64_t>(counts[i]);
    for (std::size_t j = 0; j < counts[i]; ++j) rows.row(i)[j] = places[i][j].row, scores.row(i)[j] = places[i][j].score;
  }
}

// Adds up what searches for the k best of each query alone read: lists, blocks, rows scored exactly.
void work(const Ivf4& index, Matrix<const float> queries, double depth, double refine, std::int64_t k,
          std::span<std::int64_t> counts) {
  require(queries.columns == index.width() && finite(queries) && k >= 1 && static_cast<std::size_t>(k) <= index.size() &&
              counts.size() == 3 && depth >= 0 && depth <= 1e6 && refine >= 0 && refine <= 1e6,
          "the queries or what is asked of them do not fit the index");
  std::vector<Hit> hits(static_cast<std::size_t>(k));
  Hit* const place = hits.data();
  const Ask ask{hits.size(), static_cast<float>(depth), static_cast<float>(refine)};
  std::size_t found = 0;
  for (std::size_t i = 0; i < queries.rows; ++i) {
    const Work one = index.search({queries.data + i * queries.columns, 1, queries.columns}, {&ask, 1}, {&place, 1}, {&found, 1});
    counts[0] += static_cast<std::int64_t>(one.lists);
    counts[1] += static_cast<std::int64_t>(one.blocks);
    counts[2] += static_cast<std::int64_t>(one.rows);
  }
}

std::size_t counted(std::int64_t n, const char* what) {
  require(n >= 1 && n <= (std::int64_t{1} << 31), what);
  return static_cast<std::size_t>(n);
}

void train(Matrix<const float> rows, Matrix<float> centroids, std::int64_t iterations, std::int64_t threads) {
  require(rows.columns == centroids.columns && rows.columns % 16 == 0, "the columns differ, or are not sixteen or more");
  require(centroids.rows >= 1 && centroids.rows <= rows.rows && finite(rows), "too few rows, or one holds NaN or Inf");
  kmeans(rows, centroids, counted(iterations, "no iterations"), counted(threads, "no threads"));
}

// Centroids as the file keeps them: their codes, and each column's lowest value and step.
void pack(Matrix<const float> centroids, std::span<std::uint8_t> codes, std::span<float> lowest, std::span<float> step) {
  require(centroids.rows >= 1 && centroids.columns % 16 == 0 && lowest.size() == centroids.columns && step.size() == lowest.size() &&
              codes.size() == groups_of(centroids.rows) * 16 * centroids.columns,
          "the centroids do not fit");
  const Centroids made(centroids);
  std::copy(made.codes().begin(), made.codes().end(), codes.begin());
  std::copy(made.lowest().begin(), made.lowest().end(), lowest.begin());
  std::copy(made.step().begin(), made.step().end(), step.begin());
}

void nearest(std::span<const std::uint8_t> codes, std::span<const float> lowest, std::span<const float> step,
             std::int64_t n_lists, Matrix<const float> rows, std::span<std::int32_t> lists, std::int64_t threads) {
  const std::size_t n = counted(n_lists, "no lists");
  require(rows.columns % 16 == 0 && lowest.size() == rows.columns && step.size() == rows.columns && lists.size() == rows.rows &&
              codes.size() == groups_of(n) * 16 * rows.columns && finite(rows),
          "the rows do not fit the centroids");
  Centroids(codes, lowest, step, n).nearest(rows, lists, counted(threads, "no threads"));
}

// The next free slot of each row's list, in order; `next` moves on.
void slots(std::span<const std::int32_t> lists, std::span<std::uint32_t> next, std::span<std::uint32_t> made) {
  require(lists.size() == made.size(), "one slot a row");
  for (std::size_t i = 0; i < lists.size(); ++i) {
    require(lists[i] >= 0 && static_cast<std::size_t>(lists[i]) < next.size(), "there is no such list");
    made[i] = next[static_cast<std::size_t>(lists[i])]++;
  }
}

void write(std::span<std::uint8_t> file, Matrix<const float> rows, std::span<const std::int32_t> lists,
           std::span<const std::uint32_t> places, std::int64_t first_row, std::span<float> squares, std::int64_t threads) {
  Header header{};
  require(file.size() >= kHeader, "there is no header");
  std::copy_n(file.data(), sizeof header, reinterpret_cast<std::uint8_t*>(&header));
  require(header.held % 16 == 0 && header.held >= 16 && header.held <= 1 << 14 && header.held == rows.columns &&
              header.lists >= 1 && header.lists < 1U << 31 && header.blocks < 1U << 31 &&
              file.size() == Layout(header.held, header.lists, header.blocks).end,
          "the file and its header do not fit the rows");
  require(lists.size() == rows.rows && places.size() == rows.rows && squares.size() == rows.rows && first_row >= 0 &&
              static_cast<std::uint64_t>(first_row) + rows.rows <= header.rows,
          "one list and one slot a row, and no more rows than the header says");
  for (std::size_t i = 0; i < rows.rows; ++i) {
    require(lists[i] >= 0 && static_cast<std::uint64_t>(lists[i]) < header.lists && places[i] / 16 < header.blocks,
            "there is no such list or slot");
  }
  encode(file, rows, lists, places, static_cast<std::size_t>(first_row), squares, counted(threads, "no threads"));
}

}  // namespace
}  // namespace twhin::ivf4

namespace twhin {

TWHIN_EXPORT(ivf4_open, ivf4::open, "An index over a mapped file.");
TWHIN_EXPORT(ivf4_search, ivf4::search, "The best rows for queries.");
TWHIN_EXPORT(ivf4_work, ivf4::work, "What searches read.");
TWHIN_EXPORT(ivf4_kmeans, ivf4::train, "Lloyd's k-means, in place.");
TWHIN_EXPORT(ivf4_pack, ivf4::pack, "Centroids as the file keeps them.");
TWHIN_EXPORT(ivf4_nearest, ivf4::nearest, "The list of every row.");
TWHIN_EXPORT(ivf4_slots, ivf4::slots, "The place of every row in its list.");
TWHIN_EXPORT(ivf4_encode, ivf4::write, "Codes into the file.");

}  // namespace twhin
