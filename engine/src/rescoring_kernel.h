// The features of a block of candidates and the network's scores, for one instruction set. Lanes are candidates, two vectors of
// them a block: what follows from one candidate's many products is then arithmetic between vectors, never within one.

#include "byte_lanes.h"

#ifndef TWHIN_SHUFFLE
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 12  // Ubuntu 22.04 has 11, which has the older name alone
#define TWHIN_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (std::int32_t __attribute__((vector_size(16)))){__VA_ARGS__})
#else
#define TWHIN_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif

constexpr std::size_t kBlock = 2 * kLanes;
constexpr std::size_t kQueriesAtOnce = 6;  // with two vectors of candidates: twelve sums, which fit sixteen registers
constexpr std::size_t kUnitsAtOnce = 4;

// Rows of `width` words become columns, four rows and four columns at a time. The words are floats, or four bytes each.
TWHIN_TARGET void transpose(const Block& block, std::size_t width) {
  for (std::size_t c = 0; c < kBlock; c += 4) {
    const char* rows[4];
    for (std::size_t i = 0; i < 4; ++i) rows[i] = static_cast<const char*>(block.rows[c + i]);
    float* const columns = block.columns + c;
    std::size_t d = 0;
    for (; d + 4 <= width; d += 4) {
      Quad a, b, x, y;
      std::memcpy(&a, rows[0] + 4 * d, 16), std::memcpy(&b, rows[1] + 4 * d, 16);
      std::memcpy(&x, rows[2] + 4 * d, 16), std::memcpy(&y, rows[3] + 4 * d, 16);
      const Quad ab = TWHIN_SHUFFLE(a, b, 0, 4, 1, 5), xy = TWHIN_SHUFFLE(x, y, 0, 4, 1, 5);
      const Quad ba = TWHIN_SHUFFLE(a, b, 2, 6, 3, 7), yx = TWHIN_SHUFFLE(x, y, 2, 6, 3, 7);
      const Quad out[4] = {TWHIN_SHUFFLE(ab, xy, 0, 1, 4, 5), TWHIN_SHUFFLE(ab, xy, 2, 3, 6, 7),
                           TWHIN_SHUFFLE(ba, yx, 0, 1, 4, 5), TWHIN_SHUFFLE(ba, yx, 2, 3, 6, 7)};
      for (std::size_t i = 0; i < 4; ++i) std::memcpy(columns + (d + i) * kBlock, &out[i], 16);
    }
    for (; d < width; ++d)
      for (std::size_t i = 0; i < 4; ++i) std::memcpy(columns + d * kBlock + i, rows[i] + 4 * d, 4);
  }
}

// Products of N vectors of the user's side with every candidate of the block.
template <std::size_t N>
TWHIN_INLINE void multiply_some(const float* vectors, const Block& block, float* products) {
  Floats sums[N][2];
  for (auto& sum : sums) sum[0] = sum[1] = Floats{};
  const std::size_t dim = block.dim;
  const float* column = block.columns;
  for (std::size_t d = 0; d < dim; ++d, column += kBlock) {
    const Floats left = load(column), right = load(column + kLanes);
    for (std::size_t q = 0; q < N; ++q) {
      const Floats value = all(vectors[q * dim + d]);
      sums[q][0] = fused(value, left, sums[q][0]);
      sums[q][1] = fused(value, right, sums[q][1]);
    }
  }
  for (std::size_t q = 0; q < N; ++q) {
    store(products + q * kBlock, sums[q][0]);
    store(products + q * kBlock + kLanes, sums[q][1]);
  }
}

TWHIN_TARGET void multiply(const Subject& subject, const Block& block) {
  const std::size_t n = subject.queries();
  const float* vectors = subject.vectors.data();
  std::size_t q = 0;
  for (; q + kQueriesAtOnce <= n; q += kQueriesAtOnce)
    multiply_some<kQueriesAtOnce>(vectors + q * block.dim, block, block.products + q * kBlock);
  vectors += q * block.dim;
  float* const products = block.products + q * kBlock;
  switch (n - q) {
    case 5: return multiply_some<5>(vectors, block, products);
    case 4: return multiply_some<4>(vectors, block, products);
    case 3: return multiply_some<3>(vectors, block, products);
    case 2: return multiply_some<2>(vectors, block, products);
    case 1: return multiply_some<1>(vectors, block, products);
  }
}

// The codes of the block's candidates in the columns of a word, as signed bytes and as bytes from 0 on.
TWHIN_INLINE SignedBytes codes(const Block& block, std::size_t word, std::size_t side) {
  SignedBytes codes;
  std::memcpy(&codes, block.columns + word * kBlock + side, sizeof codes);
  return codes;
}
TWHIN_INLINE Bytes shifted(SignedBytes codes) { return (Bytes)codes ^ 128; }

// The same of N rows of the user's bytes. Sums of products of bytes are exact.
template <std::size_t N>
TWHIN_INLINE void multiply_bytes(const Subject& subject, const Block& block, std::size_t first, float* to) {
  const std::size_t n_words = subject.n_words;
  const std::int32_t* words = subject.words.data() + first * n_words;
  Ints sums[N][2];
  for (std::size_t q = 0; q < N; ++q) sums[q][0] = sums[q][1] = start(words + q * n_words, n_words);
  for (std::size_t w = 0; w < n_words; ++w) {
    const Bytes left = shifted(codes(block, w, 0)), right = shifted(codes(block, w, kLanes));
    for (std::size_t q = 0; q < N; ++q) {
      const Ints word = all(words[q * n_words + w]);
      sums[q][0] = products(sums[q][0], left, word);
      sums[q][1] = products(sums[q][1], right, word);
    }
  }
  for (std::size_t q = 0; q < N; ++q) {
    const Ints bias = all(subject.biases[first + q]);
    const Floats scale = all(subject.scales[first + q]);
    store(to + q * kBlock, real(sums[q][0] - bias) * (scale * load(block.scales)));
    store(to + q * kBlock + kLanes, real(sums[q][1] - bias) * (scale * load(block.scales + kLanes)));
  }
}

// All products, of which those of digits end before the first, and are added up.
TWHIN_TARGET void multiply_all_bytes(const Subject& subject, const Block& block) {
  constexpr std::size_t kDigits = 2 * Subject::kPlanes;
  const std::size_t n = subject.byte_rows();
  float* const digits = block.products - kDigits * kBlock;  // two products stand between them and the targets'
  multiply_bytes<kDigits>(subject, block, 0, digits);
  std::size_t q = kDigits;
  float* to = block.products + 2 * kBlock;
  for (; q + kQueriesAtOnce <= n; q += kQueriesAtOnce, to += kQueriesAtOnce * kBlock)
    multiply_bytes<kQueriesAtOnce>(subject, block, q, to);
  for (; q < n; ++q, to += kBlock) multiply_bytes<1>(subject, block, q, to);
  for (std::size_t i = 0; i < 2; ++i)
    for (std::size_t side = 0; side < kBlock; side += kLanes) {
      const float* from = digits + i * Subject::kPlanes * kBlock + side;
      store(block.products + i * kBlock + side, load(from) + load(from + kBlock) + load(from + 2 * kBlock));
    }
}

TWHIN_INLINE Floats length_of_bytes(const Subject& subject, const Block& block, std::size_t side) {
  Ints sum{};
  for (std::size_t w = 0; w < subject.n_words; ++w) sum = squares(sum, codes(block, w, side));
  return larger(root(real(sum)) * load(block.scales + side), all(kTiny));
}

TWHIN_INLINE Floats length_of(const Block& block, std::size_t side) {
  Floats sum{}, other{};  // two, so that one need not wait for the other
  std::size_t d = 0;
  for (; d + 2 <= block.dim; d += 2) {
    const Floats value = load(block.columns + d * kBlock + side), next = load(block.columns + (d + 1) * kBlock + side);
    sum = fused(value, value, sum), other = fused(next, next, other);
  }
  if (d < block.dim) sum = fused(load(block.columns + d * kBlock + side), load(block.columns + d * kBlock + side), sum);
  return larger(root(sum + other), all(kTiny));
}

TWHIN_INLINE Floats product(const Block& block, std::size_t query, std::size_t side) {
  return load(block.products + query * kBlock + side);
}

// Means, the three nearest and the soft maximum over the targets.
TWHIN_TARGET void to_targets(const Subject& subject, const Block& block, std::size_t side, Floats length, float* out) {
  Floats sum{}, damped{}, peak = all(kLowest), first = peak, second = peak, third = peak;
  for (std::size_t t = 0; t < subject.targets; ++t) {
    const Floats value = product(block, 2 + t, side), cosine = value * subject.inverse_lengths[t];
    sum += value;
    damped = fused(value, all(subject.shares[t]), damped);
    peak = larger(peak, value);
    const Floats below = smaller(first, cosine), under = smaller(second, below);
    first = larger(first, cosine), second = larger(second, below), third = larger(third, under);
  }
  Floats soft{};
  for (std::size_t t = 0; t < subject.targets; ++t) soft += exponential(product(block, 2 + t, side) - peak);
  const auto n = static_cast<float>(subject.targets);
  Floats nearest = first;
  if (subject.targets > 1) nearest += second;
  if (subject.targets > 2) nearest += third;
  store(out + kFoldIn * kBlock, sum / n);
  store(out + kDampedFoldIn * kBlock, damped);
  store(out + kNearestTarget * kBlock, first / length);
  store(out + kThreeNearestTargets * kBlock, nearest / std::min(3.0f, n) / length);
  store(out + kSoftNearestTarget * kBlock, peak + logarithm(soft / n));
}

TWHIN_TARGET void to_followers(const Subject& subject, const Block& block, std::size_t side, Floats length, float* out) {
  Floats sum{}, nearest = all(kLowest);
  for (std::size_t f = 0; f < subject.followers; ++f) {
    const Floats value = product(block, 2 + subject.targets + f, side);
    sum += value;
    nearest = larger(nearest, value * subject.inverse_lengths[subject.targets + f]);
  }
  store(out + kFollowers * kBlock, sum / static_cast<float>(subject.followers));
  store(out + kNearestFollower * kBlock, nearest / length);
}

// Every feature of the block: kFeatures rows of it.
TWHIN_TARGET void features(const Subject& subject, const Block& block) {
  transpose(block, subject.n_words ? subject.n_words : block.dim);
  subject.n_words ? multiply_all_bytes(subject, block) : multiply(subject, block);
  for (std::size_t side = 0; side < kBlock; side += kLanes) {
    float* out = block.features + side;
    const Floats length = subject.n_words ? length_of_bytes(subject, block, side) : length_of(block, side);
    store(out + kUser * kBlock, product(block, 0, side));
    store(out + kRelation * kBlock, product(block, 1, side));
    store(out + kLength * kBlock, length);
    for (const std::size_t feature : {kFoldIn, kDampedFoldIn, kFollowers, kNearestTarget, kThreeNearestTargets,
                                      kSoftNearestTarget, kNearestFollower})
      store(out + feature * kBlock, Floats{});
    if (subject.targets) to_targets(subject, block, side, length, out);
    if (subject.followers) to_followers(subject, block, side, length, out);
    store(out + kReciprocity * kBlock, load(block.reciprocal + side));
    store(out + kInDegree * kBlock, logarithm(load(block.in_degree + side) + 1.0f));
    store(out + kOutDegree * kBlock, logarithm(load(block.out_degree + side) + 1.0f));
    store(out + kUserOutDegree * kBlock, all(subject.log_out_degree));
    store(out + kUserInDegree * kBlock, all(subject.log_in_degree));
    for (std::size_t path = 0; path < kPaths; ++path) {
      const Floats value = load(block.paths[path] + side) * (path < kPathCounts ? 1.0f : kFinest);
      store(out + (kFirstPath + path) * kBlock, logarithm(value + 1.0f));
    }
  }
}

// What N hidden units add to the scores.
template <std::size_t N>
TWHIN_INLINE void add_units(const Network& network, const Block& block, std::size_t first, Floats* scores) {
  Floats units[N][2];
  for (std::size_t u = 0; u < N; ++u) units[u][0] = units[u][1] = all(network.bias[first + u]);
  const float* weights = network.weights.data + first;
  for (std::size_t f = 0; f < kFeatures; ++f, weights += network.hidden) {
    const Floats left = load(block.features + f * kBlock), right = load(block.features + f * kBlock + kLanes);
    for (std::size_t u = 0; u < N; ++u) {
      const Floats weight = all(weights[u]);
      units[u][0] = fused(left, weight, units[u][0]);
      units[u][1] = fused(right, weight, units[u][1]);
    }
  }
  for (std::size_t u = 0; u < N; ++u) {
    const Floats out = all(network.out[first + u]);
    for (std::size_t side = 0; side < 2; ++side) scores[side] = fused(larger(units[u][side], Floats{}), out, scores[side]);
  }
}

// The network's score of every candidate of the block. Units several at once: each is a sum that waits for its last product.
TWHIN_TARGET void network(const Network& network, const Block& block, float* scores) {
  Floats sums[2] = {};
  std::size_t h = 0;
  for (; h + kUnitsAtOnce <= network.hidden; h += kUnitsAtOnce) add_units<kUnitsAtOnce>(network, block, h, sums);
  for (; h < network.hidden; ++h) add_units<1>(network, block, h, sums);
  store(scores, sums[0]), store(scores + kLanes, sums[1]);
}

TWHIN_TARGET Sums sums(const std::int8_t* codes, std::size_t n) {
  Sums sums{0, 0};
  for (std::size_t i = 0; i < n; ++i) sums.plain += codes[i], sums.squared += codes[i] * codes[i];
  return sums;
}

constexpr Kernel kKernel = {kBlock, &features, &network, &sums};
