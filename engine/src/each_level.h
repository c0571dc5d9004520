// A kernel for each instruction set, and the one of the set in use. Included inside an unnamed namespace, behind the struct `Kernel`,
// with TWHIN_KERNEL the name of a header that is written over lanes.h and ends with a `Kernel kKernel`; with TWHIN_BYTES where it
// multiplies bytes, so that sets which differ in nothing else are made of it too.

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are handed over between functions that are always inlined
#pragma GCC diagnostic ignored "-Wuninitialized"  // in the compiler's own headers
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wunused-function"  // no kernel uses every function of lanes.h
#if TWHIN_X86
namespace avx512 {
#define TWHIN_TARGET TWHIN_AVX512
#define TWHIN_LANES 16
#define TWHIN_DOT 1
#include "this_level.h"
}  // namespace avx512

namespace avx2 {
#define TWHIN_TARGET TWHIN_AVX2
#define TWHIN_LANES 8
#define TWHIN_DOT 0
#include "this_level.h"
}  // namespace avx2
#ifdef TWHIN_BYTES
namespace avxvnni {
#define TWHIN_TARGET TWHIN_AVXVNNI
#define TWHIN_LANES 8
#define TWHIN_DOT 1
#include "this_level.h"
}  // namespace avxvnni
#else
namespace avxvnni = avx2;
#endif
#endif

namespace plain {
#define TWHIN_TARGET
#define TWHIN_LANES 4
#define TWHIN_DOT 0
#include "this_level.h"
}  // namespace plain
#if TWHIN_ARM && defined(TWHIN_BYTES)
namespace neon {
#define TWHIN_TARGET TWHIN_NEON
#define TWHIN_LANES 4
#define TWHIN_DOT 1
#include "this_level.h"
}  // namespace neon
#else
namespace neon = plain;
#endif
#pragma GCC diagnostic pop

const Kernel& kernel() {
  switch (level()) {
#if TWHIN_X86
    case Level::avx512: return avx512::kKernel;
    case Level::avxvnni: return avxvnni::kKernel;
    case Level::avx2: return avx2::kKernel;
#endif
    case Level::neon: return neon::kKernel;
    default: return plain::kKernel;
  }
}
