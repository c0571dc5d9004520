// From candidates to an answer: what has a bonus, rescoring, merging, filling up with the popular, JSON.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "merge.h"
#include "plan.h"
#include "ranking.h"
#include "rescoring.h"
#include "searcher.h"

namespace twhin {

// What a candidate is written like: what stands before its id, its score and its mode, and after it.
struct Shape {
  static constexpr const char* kName = "twhin.Shape";
  std::string_view before_id, before_score, before_mode, after;
};

enum class Outcome : std::uint8_t { answered, search, not_covered };

class Answer {  // one for each thread: its buffers outlast a request
 public:
  Plan plan;

  // From the stored lists or popularity where they do; else the queries are in `queries` and the searcher's turn has come.
  Outcome begin(Matrix<float> queries);
  // From what the searcher found for each query: rows and scores of all, one query after another, up to `ends`.
  Outcome finish(Matrix<const float> queries, std::span<const std::int32_t> rows, std::span<const float> scores,
                 std::span<const std::int64_t> ends);

  // Both, with a search by the engine's own searcher between them where one is needed.
  Outcome search(const Searcher& index, float depth, float refine);

  bool searched() const { return searched_; }
  bool short_of_k() const { return slate_.size() < plan.request.k; }
  Fallback fallback() const { return fallback_; }
  std::string json(const Shape& shape) const;
  std::string rows() const;  // 32 bits each

 private:
  struct Owned {  // a list that is not another's memory
    std::vector<std::int32_t> rows;
    std::vector<float> scores;
  };
  bool from_lists();
  Matrix<float> room_for_queries();
  bool fill_up();
  struct Bonus {
    std::int32_t row;
    float bonus;
  };
  void add_bonuses(Matrix<const float> queries, bool ordered);
  void keep_worthiest(std::vector<Bonus>& some);
  float gain(std::size_t i) const;
  void find_bonuses();
  void add_bonuses_to(std::size_t list, std::span<const float> query, bool ordered);
  void keep_best(std::size_t list, std::size_t n, bool ordered);
  bool rescores() const;
  void rescore(std::size_t list);
  void merge();
  void put_back();
  Owned& owned(std::size_t list);

  Rescorer rescorer_;
  Merger merger_;
  Fallback fallback_ = Fallback::none;
  bool searched_ = false;
  std::vector<RankedList> lists_;
  std::vector<Owned> owned_;
  std::vector<std::int32_t> pool_;  // that is rescored
  std::vector<float> shares_, queries_, scores_, row_;
  std::vector<Bonus> followers_, elsewhere_;
  std::vector<Bonus> bonuses_;
  Bitmap with_bonus_;  // the rows of these
  Ranking scored_;
  std::vector<Pick> slate_;
  std::vector<Hit> hits_;
  std::vector<Hit*> places_;
  std::vector<Ask> asks_;
  std::vector<std::size_t> found_;
  std::vector<std::int32_t> found_rows_;
  std::vector<float> found_scores_;
  std::vector<std::int64_t> ends_;
};

}  // namespace twhin
