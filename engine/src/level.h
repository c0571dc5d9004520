// The instruction sets that the engine is written for, and the one in use. Functions for a set carry its attribute,
// not the file: what they share with others is compiled for any processor, and none runs what it lacks.
#pragma once
#include <string_view>

namespace twhin {

enum class Level { plain, avx2, avx512 };

Level best_level() noexcept;
Level level() noexcept;
void set_level(Level wanted);
std::string_view name_of(Level level) noexcept;

}  // namespace twhin

#if defined(__x86_64__)
#define TWHIN_X86 1
#define TWHIN_AVX2 __attribute__((target("avx2,fma,f16c,bmi,bmi2,popcnt")))
#define TWHIN_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c,bmi,bmi2,popcnt")))
#else
#define TWHIN_X86 0
#endif
