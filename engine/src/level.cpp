// Which instruction set is used, and the switch that tests use.
#include "level.h"

#include <atomic>
#include <stdexcept>
#include <string>

namespace twhin {
namespace {

constexpr std::string_view kNames[] = {"plain", "avx2", "avx512"};

Level detect() noexcept {
#if TWHIN_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
                    __builtin_cpu_supports("popcnt");
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
