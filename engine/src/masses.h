// Walkers that stand at entities: where they come, how they go on, and their sum over the rows of a list. Few of a type's entities have
// any: their masses lie side by side, and an entity knows its place among them by two bytes, which is what most look-ups are about.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "csr.h"

namespace twhin {

// A number for each entity of a type, zeros at first. Pages are taken when they are touched: few of 10⁸ numbers ever are.
template <class T>
class Zeros {
 public:
  // Room for n; what was there is lost where there was less.
  void reserve(std::size_t n) {
    if (n <= size_) return;
    size_ = 0;
    numbers_.reset(static_cast<T*>(std::calloc(n, sizeof(T))));
    if (!numbers_) throw std::bad_alloc();
    size_ = n;
  }
  T& operator[](std::size_t i) { return numbers_[i]; }
  const T& operator[](std::size_t i) const { return numbers_[i]; }
  T* data() { return numbers_.get(); }
  const T* data() const { return numbers_.get(); }

 private:
  struct Free {
    void operator()(T* numbers) const { std::free(numbers); }
  };
  std::unique_ptr<T[], Free> numbers_;
  std::size_t size_ = 0;
};

struct alignas(8) Mass {  // of walkers that stand at an entity, and the same by the roots of the steps' shares
  float plain, root;
};

constexpr std::size_t kMostSources = 256;       // of a list, in an even sample: see recommend/paths.py
constexpr std::size_t kMostPlaces = UINT16_MAX;  // that have a mass

class Masses {
 public:
  // Of `entities` none has a mass yet; no more than `most`, at most kMostPlaces, will have one, or be added to.
  void begin(std::size_t entities, std::size_t most);

  // Adds `share`, which is not zero, to each of the distinct `rows` that are entities.
  void add(std::span<const std::int32_t> rows, Mass share);

  // The entities that have a mass, each once.
  std::span<const std::int32_t> rows() const { return {rows_.data(), count_}; }

  // Their masses, in step.
  std::span<const Mass> masses() const { return {masses_.data() + 1, count_}; }

  // The mass of one of these.
  const Mass& of(std::int32_t row) const { return masses_[places_[static_cast<std::size_t>(row)]]; }

  // Divides what has come to each entity by the edges that `lists` has from there, and by their root.
  void divide_by_degrees(const Csr& lists);

  // The sum over `rows`, or over kMostSources of them, evenly apart, which stand for all.
  Mass sum_of_sample(std::span<const std::int32_t> rows) const;

  void forget();

 private:
  template <class Row>
  Mass sum_of_some(std::size_t n, Row row) const;

  std::size_t entities_ = 0, count_ = 0;
  Zeros<std::uint16_t> places_;     // of an entity among the masses; 0: it has none. The last is of what is no entity
  std::vector<std::int32_t> rows_;  // of each mass but the first
  std::vector<Mass> masses_;        // the first is zero, and so are all that are not used
};

}  // namespace twhin
