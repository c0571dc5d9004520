// The instruction sets that the engine is written for, and the one in use. Functions for a set carry its attribute,
// not the file: what they share with others is compiled for any processor, and none runs what it lacks.
#pragma once
#include <string_view>

namespace twhin {

// `neon` has products of bytes (dotprod), `avx512` VNNI, `avxvnni` the same 256 bits wide. A processor may have the last and not the one
// before it. On every architecture all have a name; `has` says which there are.
enum class Level { plain, neon, avx2, avxvnni, avx512 };
constexpr Level kLevels[] = {Level::plain, Level::neon, Level::avx2, Level::avxvnni, Level::avx512};

bool has(Level level) noexcept;
Level level() noexcept;
void set_level(Level wanted);
std::string_view name_of(Level level) noexcept;

}  // namespace twhin

#define TWHIN_X86 0
#define TWHIN_ARM 0
#if defined(__x86_64__)
#undef TWHIN_X86
#define TWHIN_X86 1
#define TWHIN_AVX2 __attribute__((target("avx2,fma,f16c,bmi,bmi2,popcnt")))
#define TWHIN_AVXVNNI __attribute__((target("avxvnni,avx2,fma,f16c,bmi,bmi2,popcnt")))
#define TWHIN_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c,bmi,bmi2,popcnt")))
#elif defined(__aarch64__)
#undef TWHIN_ARM
#define TWHIN_ARM 1
#if defined(__clang__)
#define TWHIN_NEON __attribute__((target("dotprod")))
#else
#define TWHIN_NEON __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#endif
