"""The checks of signatures that tests run with: what annotations say of arrays and of everything else.

jaxtyping's own decorator takes some 20 µs a call, of which the tests make hundreds of millions: two thirds of a build's
time. So a function that no array goes into or comes out of is checked by beartype alone, and of one with arrays the
first calls in each test are checked, and then one in so many.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook

# Of one function in one test: so many calls, then each of so many.
FIRST, THEN_EACH = 100, 16

_full = jaxtyping.jaxtyped
_test = 0


def install(packages: list[str]) -> None:
    """Check the functions and dataclasses of `packages`, which nobody has imported yet."""
    jaxtyping.jaxtyped = _checked  # what the hook writes before each function
    install_import_hook(packages, "beartype.beartype")


def begin_test() -> None:
    """The calls of a test are counted from here."""
    global _test
    _test += 1


def _checked(fn: Any = None, *, typechecker: Any) -> Any:
    if fn is None:
        return lambda fn: _checked(fn, typechecker=typechecker)
    if not isinstance(fn, FunctionType):
        return _full(fn, typechecker=typechecker)
    hints = {name: _evaluated(hint, fn) for name, hint in fn.__annotations__.items()}
    if any(map(_has_arrays, hints.values())):
        return _now_and_then(_full(fn, typechecker=typechecker), fn)
    fn.__annotations__ = hints
    return beartype(fn)


def _evaluated(hint: Any, fn: FunctionType) -> Any:
    """A hint that may be text, or name what is imported for type checkers alone: that can be anything."""

    def holder(value: Any) -> None: ...

    holder.__annotations__ = {"value": hint}
    try:
        return get_type_hints(holder, fn.__globals__, include_extras=True)["value"]
    except NameError:
        return Any


def _has_arrays(hint: Any) -> bool:
    """Whether arrays with a shape are what `hint` allows, or a part of it."""
    if isinstance(hint, list | tuple):  # the parameters of a function
        return any(map(_has_arrays, hint))
    return (inspect.isclass(hint) and issubclass(hint, AbstractArray)) or any(map(_has_arrays, get_args(hint)))


def _now_and_then(checked: Callable[..., Any], fn: Callable[..., Any]) -> Callable[..., Any]:
    test, calls = 0, 0

    @wraps(fn)
    def sampled(*args: Any, **kwargs: Any) -> Any:
        nonlocal test, calls
        if test != _test:
            test, calls = _test, 0
        calls += 1
        return checked(*args, **kwargs) if calls <= FIRST or calls % THEN_EACH == 0 else fn(*args, **kwargs)

    return sampled
