// A kernel for each instruction set, and the one of the set in use. Included inside an unnamed namespace, behind the struct `Kernel`,
// with TWHIN_KERNEL the name of a header that is written over lanes.h and ends with a `Kernel kKernel`.

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are handed over between functions that are always inlined
#pragma GCC diagnostic ignored "-Wuninitialized"  // in the compiler's own headers
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wunused-function"  // no kernel uses every function of lanes.h
#if TWHIN_X86
namespace avx512 {
#define TWHIN_TARGET TWHIN_AVX512
#define TWHIN_LANES 16
#include "lanes.h"
#include TWHIN_KERNEL
#undef TWHIN_INLINE
#undef TWHIN_TARGET
#undef TWHIN_LANES
}  // namespace avx512

namespace avx2 {
#define TWHIN_TARGET TWHIN_AVX2
#define TWHIN_LANES 8
#include "lanes.h"
#include TWHIN_KERNEL
#undef TWHIN_INLINE
#undef TWHIN_TARGET
#undef TWHIN_LANES
}  // namespace avx2
#endif

namespace plain {
#define TWHIN_TARGET
#define TWHIN_LANES 4
#include "lanes.h"
#include TWHIN_KERNEL
#undef TWHIN_INLINE
#undef TWHIN_TARGET
#undef TWHIN_LANES
}  // namespace plain
#pragma GCC diagnostic pop

const Kernel& kernel() {
#if TWHIN_X86
  if (level() == Level::avx512) return avx512::kKernel;
  if (level() == Level::avx2) return avx2::kKernel;
#endif
  return plain::kKernel;
}
