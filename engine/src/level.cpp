// Which instruction set is used, and the switch that tests use.
#include "level.h"

#include <atomic>
#include <stdexcept>
#include <string>
#if TWHIN_X86
#include <cpuid.h>
#endif

namespace twhin {
namespace {

constexpr std::string_view kNames[] = {"plain", "avx2", "avx512"};

#if TWHIN_X86
// Not every compiler's __builtin_cpu_supports knows its name; a virtual machine may have AVX2 and hide it.
bool has_f16c() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

Level detect() noexcept {
#if TWHIN_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c() &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni");
  return avx2 && avx512 ? Level::avx512 : avx2 ? Level::avx2 : Level::plain;
#else
  return Level::plain;
#endif
}

std::atomic<Level> current{detect()};

}  // namespace

Level best_level() noexcept {
  static const Level best = detect();
  return best;
}

Level level() noexcept { return current.load(std::memory_order_relaxed); }

void set_level(Level wanted) {
  if (wanted > best_level()) {
    throw std::invalid_argument("this processor has no " + std::string(name_of(wanted)));
  }
  current = wanted;
}

std::string_view name_of(Level level) noexcept { return kNames[static_cast<int>(level)]; }

}  // namespace twhin
