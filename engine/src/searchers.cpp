// What Python calls of searchers of any kind. The sizes of arrays that belong together are compared here.
#include <memory>
#include <vector>

#include "binding.h"
#include "exact.h"

namespace twhin {
namespace {

std::unique_ptr<Searcher> exact_open(const Rows& vectors) { return std::make_unique<Exact>(vectors); }

// excluded[ends[i-1] .. ends[i]] are those of query i; rows and scores are q × k. Returns nothing: found[i] says how many.
void search(const Searcher& index, Matrix<const float> queries, double depth, double refine,
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
void work(const Searcher& index, Matrix<const float> queries, double depth, double refine, std::int64_t k,
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

}  // namespace

TWHIN_EXPORT(exact_open, exact_open, "A searcher that scores every row.");
TWHIN_EXPORT(search, search, "The best rows for queries.");
TWHIN_EXPORT(search_work, work, "What searches read.");

}  // namespace twhin
