// Which instruction set is used, and the switch that tests use.
#include "level.h"

#include <atomic>
#include <stdexcept>
#include <string>
#if TWHIN_X86
#include <cpuid.h>
#elif TWHIN_ARM && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace twhin {
namespace {

constexpr std::string_view kNames[] = {"plain", "neon", "avx2", "avxvnni", "avx512"};

#if TWHIN_X86
// Not every compiler's __builtin_cpu_supports knows its name; a virtual machine may have AVX2 and hide it.
bool has_f16c() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

bool has_avxvnni() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & 1U << 4) != 0;
}

bool detected(Level wanted) noexcept {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c() &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
  if (wanted == Level::avx2) return avx2;
  if (wanted == Level::avxvnni) return avx2 && has_avxvnni();
  return wanted == Level::avx512 && avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
}
#elif TWHIN_ARM
bool has_dotprod() noexcept {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return true;  // every one of Apple's
#endif
}

bool detected(Level wanted) noexcept { return wanted == Level::neon && has_dotprod(); }
#else
bool detected(Level) noexcept { return false; }
#endif

Level best() noexcept {
  Level best = Level::plain;
  for (const Level one : kLevels) best = has(one) ? one : best;
  return best;
}

std::atomic<Level> current{best()};

}  // namespace

bool has(Level level) noexcept { return level == Level::plain || detected(level); }

Level level() noexcept { return current.load(std::memory_order_relaxed); }

void set_level(Level wanted) {
  if (!has(wanted)) throw std::invalid_argument("this processor has no " + std::string(name_of(wanted)));
  current = wanted;
}

std::string_view name_of(Level level) noexcept { return kNames[static_cast<int>(level)]; }

}  // namespace twhin
