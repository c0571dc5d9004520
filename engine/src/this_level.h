// One kernel for one instruction set, and its names forgotten again; for each_level.h alone.
#include "lanes.h"
#include TWHIN_KERNEL
#undef TWHIN_INLINE
#undef TWHIN_TARGET
#undef TWHIN_LANES
#undef TWHIN_DOT
