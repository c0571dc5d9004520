// What this machine can do at most: bytes a second by how many are read, in order and by rows of 512, and products of bytes a second.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

namespace {

constexpr std::size_t kRow = 512, kLine = 64;
volatile std::uint64_t sink;

double now() {  // CPU seconds of this thread
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

std::uint64_t read(const std::uint8_t* from, std::size_t n) {
  std::uint64_t sums[8] = {};
  for (std::size_t i = 0; i + kLine <= n; i += kLine) {
    std::uint64_t words[8];
    std::memcpy(words, from + i, kLine);
    for (int j = 0; j < 8; ++j) sums[j] += words[j];
  }
  std::uint64_t sum = 0;
  for (const std::uint64_t part : sums) sum += part;
  return sum;
}

}  // namespace

extern "C" {

// The best of five passes over `size` bytes: bytes a second, in order.
double bytes_in_order(std::size_t size) {
  auto* data = static_cast<std::uint8_t*>(std::aligned_alloc(4096, size / 4096 * 4096 + 4096));
  std::memset(data, 1, size);
  const std::size_t times = std::max<std::size_t>(1, (std::size_t{1} << 27) / size);
  double best = 0;
  for (int pass = 0; pass < 5; ++pass) {
    const double started = now();
    for (std::size_t i = 0; i < times; ++i) sink = read(data, size);
    best = std::max(best, static_cast<double>(size * times) / (now() - started));
  }
  std::free(data);
  return best;
}

// The same by rows of 512 bytes in no order.
double bytes_by_rows(std::size_t size) {
  auto* data = static_cast<std::uint8_t*>(std::aligned_alloc(4096, size / 4096 * 4096 + 4096));
  std::memset(data, 1, size);
  const std::size_t rows = std::max<std::size_t>(1, size / kRow), reads = 200'000;
  double best = 0;
  std::uint64_t random = 88172645463325252U;
  for (int pass = 0; pass < 3; ++pass) {
    const double started = now();
    for (std::size_t i = 0; i < reads; ++i) {
      random ^= random << 13, random ^= random >> 7, random ^= random << 17;
      sink = read(data + random % rows * kRow, kRow);
    }
    best = std::max(best, static_cast<double>(reads * kRow) / (now() - started));
  }
  std::free(data);
  return best;
}

// Products of bytes that are added up, a second, from registers and the nearest cache.
double products() {
  constexpr std::size_t kBytes = 4096, kTimes = 20'000;
  alignas(64) static std::uint8_t codes[kBytes];
  alignas(64) static std::int8_t query[kBytes];
  std::memset(codes, 3, kBytes), std::memset(query, 2, kBytes);
  double best = 0;
  for (int pass = 0; pass < 5; ++pass) {
    const double started = now();
    for (std::size_t t = 0; t < kTimes; ++t) {
#if defined(__AVX512VNNI__)
      __m512i sums[8];
      for (auto& sum : sums) sum = _mm512_setzero_si512();
      for (std::size_t i = 0; i < kBytes; i += 8 * kLine)
        for (std::size_t j = 0; j < 8; ++j)
          sums[j] = _mm512_dpbusd_epi32(sums[j], _mm512_load_si512(codes + i + j * kLine), _mm512_load_si512(query + i + j * kLine));
      for (int j = 1; j < 8; ++j) sums[0] = _mm512_add_epi32(sums[0], sums[j]);
      sink = static_cast<std::uint64_t>(_mm512_reduce_add_epi32(sums[0]));
#else
      std::int32_t sum = 0;
      for (std::size_t i = 0; i < kBytes; ++i) sum += codes[i] * query[i];
      sink = static_cast<std::uint64_t>(sum);
#endif
    }
    best = std::max(best, static_cast<double>(kBytes * kTimes) / (now() - started));
  }
  return best;
}

}  // extern "C"
