// Making an `ivf4` index: k-means on a sample, the list of every row, codes into the file. All of it is the same for any
// number of threads and any instruction set.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "arrays.h"

namespace twhin::ivf4 {

// Centroids as a search reads them: value = lowest[j] + step[j] · code, sixteen lists side by side, four columns together.
class Centroids {
 public:
  explicit Centroids(Matrix<const float> values);
  Centroids(std::span<const std::uint8_t> codes, std::span<const float> lowest, std::span<const float> step,
            std::size_t lists);

  float value(std::size_t list, std::size_t column) const {
    return lowest_[column] + step_[column] * static_cast<float>(codes_[place(list, column)]);
  }
  // lists[i]: the list whose centroid is nearest to row i.
  void nearest(Matrix<const float> rows, std::span<std::int32_t> lists, std::size_t threads) const;

  std::span<const std::uint8_t> codes() const { return codes_; }
  std::span<const float> lowest() const { return lowest_; }
  std::span<const float> step() const { return step_; }

 private:
  std::size_t place(std::size_t list, std::size_t column) const {
    return (list / 16 * (lowest_.size() / 4) + column / 4) * 64 + list % 16 * 4 + column % 4;
  }
  void make_bias();

  std::size_t lists_;
  std::vector<float> lowest_, step_, bias_;
  std::vector<std::uint8_t> codes_;
};

// Writes the codes of `rows` and their numbers, from `first_row` on, into their slots: place in a list, sixteen to a block.
// The header and the arrays before the blocks are in the file already. squares[i] is |row − centroid|².
void encode(std::span<std::uint8_t> file, Matrix<const float> rows, std::span<const std::int32_t> lists,
            std::span<const std::uint32_t> slots, std::size_t first_row, std::span<float> squares, std::size_t threads);

// Lloyd's k-means: `centroids` holds the first ones and then the last. An empty list takes a row of the largest. The last iteration looks
// at all rows, the one before at every other, those before that at every fourth: what they find is moved again.
void kmeans(Matrix<const float> rows, Matrix<float> centroids, std::size_t iterations, std::size_t threads);

}  // namespace twhin::ivf4
