// From a request to a plan: the user's targets, interests and exclusions, and the query vectors; as recommend/plan.py, profile.py
// and queries.py make them.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "bitmap.h"
#include "strategy.h"

namespace twhin {

enum class Fallback : std::uint8_t { none, deeper_search, fold_in, user_vector, popular };

struct Mode {
  std::int32_t cluster;
  float share;
};

struct Evidence {  // an entity that stands for the user
  const Entities* of;
  std::int32_t row;
};

// Everything that is known before a searcher is asked. Its buffers outlast a request: one for each thread.
class Plan {
 public:
  const Space* space = nullptr;
  const Relation* relation = nullptr;
  const Strategy* strategy = nullptr;
  Request request;

  Weights weights;         // after those of absent terms have moved
  bool popular = false;    // nothing is known of the user, or nothing is asked for but popularity
  bool stored = false;     // the modes' stored lists may answer
  Fallback fallback = Fallback::none;
  std::vector<std::int32_t> targets, followers;  // ascending
  std::vector<std::int32_t> elsewhere;           // what the user has by other relations that tell of this one, ascending
  std::vector<float> shares, recencies;          // of each of it: recommend/elsewhere.py
  std::vector<Mode> modes;                       // heaviest first
  std::vector<std::int32_t> excluded;            // distinct rows; `unwanted` has the same

  void make(const Space& space, const Relation& relation, const Strategy& strategy, const Request& request);
  void forget();  // clears `unwanted`: after every request

  bool known() const { return request.user >= 0; }
  std::size_t reach() const { return std::max(request.k, strategy->pool); }
  std::size_t query_count() const { return std::max<std::size_t>(1, modes.size()); }
  std::span<const float> vector() const { return own_; }  // empty for one who is unknown
  bool keeps(std::int32_t row) const { return !unwanted_.has(static_cast<std::size_t>(row)); }
  std::size_t left() const;  // how many rows may be in the answer
  Unwanted& unwanted() { return unwanted_; }  // excluded rows, and whatever a merge has taken

  // Writes query_count() rows of the target's width.
  void build_queries(Matrix<float> out);

 private:
  void current_targets(const Relation& of, std::vector<std::int32_t>& out);
  void find_evidence();
  void find_modes();
  void count_clusters(const Relation& of);
  void find_dated(const Relation& of);
  std::int64_t time_of(const Relation& of, std::int32_t row) const;
  void fade();
  void heaviest_clusters(std::size_t wanted);
  void find_followers();
  void find_elsewhere();
  void find_newer();
  void exclude();
  void move_weights();
  void add_mean(std::span<float> to, double weight) const;
  void add_personal(std::size_t mode, std::span<float> to) const;
  void add_mode(std::size_t mode, std::span<float> to) const;

  static constexpr std::int64_t kNoTime = INT64_MAX;  // as new as can be
  struct Counted {
    std::int32_t cluster;
    double count;
    std::int64_t time = kNoTime, clock = 0;
  };
  struct Newest {
    std::int64_t clock, time;
  };
  struct Dated {  // a row that was added live
    std::int32_t row;
    std::int64_t time;
  };
  std::vector<Evidence> evidence_;
  std::vector<std::int32_t> others_, live_;
  struct Told {  // an engagement by a relation that tells of the one asked for
    std::int32_t row;
    float share;
    std::int64_t time, clock;
    bool dated;
    float recency;
  };
  std::vector<Told> telling_;
  std::vector<std::size_t> by_time_;
  std::vector<Counted> counted_;
  std::vector<Dated> dated_;
  std::vector<Newest> newest_;
  mutable std::vector<float> mean_, row_;
  std::vector<float> own_row_;
  std::span<const float> own_;
  Unwanted unwanted_;
};

// A plan that is made, and forgotten however the request ends: also when it could not be made to the end.
class Planned {
 public:
  Planned(Plan& plan, const Space& space, const Relation& relation, const Strategy& strategy, const Request& request) : Planned(plan) {
    plan.make(space, relation, strategy, request);
  }
  ~Planned() { plan_.forget(); }
  Planned(const Planned&) = delete;
  Planned& operator=(const Planned&) = delete;

 private:
  explicit Planned(Plan& plan) : plan_(plan) {}  // once this is through, there is something to destroy
  Plan& plan_;
};

}  // namespace twhin
