"""The compiled engine: one small C++ library that knows arrays and bytes, and what it takes to have it here.

`native()` is the library, `available()` says whether there is one: without it every caller has a path in Python,
which is also the judge of what the library answers.

To add to it, write `engine/src/NAME.cpp`: every `.cpp` below `src/` is compiled. Make plain C++ functions of spans,
matrices, numbers and handles (`src/binding.h`), export them at the file's end with `TWHIN_EXPORT`, and write their
types into `engine/native.py`. Sources that changed are compiled again when the library is next asked for.
"""

from engine.load import available, native, why_unavailable
from engine.native import Native

__all__ = ["Native", "available", "native", "why_unavailable"]
