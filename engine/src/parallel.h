// A loop shared among threads, each with one run of the indices.
#pragma once
#include <algorithm>
#include <cstddef>
#include <thread>
#include <vector>

namespace twhin {

// body(first, last) for parts of [0, n) that begin at multiples of `grain`.
template <class Body>
void parallel(std::size_t n, std::size_t threads, std::size_t grain, Body body) {
  const std::size_t pieces = (n + grain - 1) / grain;
  threads = std::max<std::size_t>(1, std::min(threads, pieces));
  std::vector<std::jthread> others;
  for (std::size_t t = 1; t < threads; ++t) {
    others.emplace_back([=] { body(pieces * t / threads * grain, std::min(n, pieces * (t + 1) / threads * grain)); });
  }
  body(0, std::min(n, pieces / threads * grain));
}

}  // namespace twhin
