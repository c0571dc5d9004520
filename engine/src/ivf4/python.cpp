// What Python calls of `ivf4`. The sizes of arrays that belong together are compared here.
#include <algorithm>
#include <memory>
#include <stdexcept>

#include "binding.h"
#include "ivf4.h"
#include "ivf4/build.h"
#include "ivf4/layout.h"
#include "parallel.h"

namespace twhin::ivf4 {
namespace {

std::unique_ptr<Searcher> open(std::span<const std::uint8_t> file, Matrix<const float> query_map, const Rows& vectors) {
  return std::make_unique<Ivf4>(file, query_map, vectors);
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
TWHIN_EXPORT(ivf4_kmeans, ivf4::train, "Lloyd's k-means, in place.");
TWHIN_EXPORT(ivf4_pack, ivf4::pack, "Centroids as the file keeps them.");
TWHIN_EXPORT(ivf4_nearest, ivf4::nearest, "The list of every row.");
TWHIN_EXPORT(ivf4_slots, ivf4::slots, "The place of every row in its list.");
TWHIN_EXPORT(ivf4_encode, ivf4::write, "Codes into the file.");

}  // namespace twhin
