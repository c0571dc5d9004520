"""What is written as JSON or read from TOML, as pydantic models: the common bases, and a reader's fault in words."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# pydantic's types of faults in the words of whoever writes settings.
_EXPECTED = {
    "byte_size": "a size, such as 8GiB",
    "tuple_type": "a list",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}


class Record(BaseModel):
    """Frozen and closed: an unknown or misspelt key is an error, not a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StrictRecord(Record):
    """A record whose values must have the very types of its fields: `"3"` is no number."""

    model_config = ConfigDict(strict=True)


class Settings(Record):
    """Settings that a person wrote. `inf` and `nan`, which TOML has, are none, a truth value is no number, and a whole
    number is written in digits: `1e3` is none.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: object, info: Any) -> object:
        annotation = cls.model_fields[str(info.field_name)].annotation
        values = value.values() if get_origin(annotation) is dict and isinstance(value, dict) else (value,)
        if annotation is not bool and any(isinstance(one, bool) for one in values):
            raise PydanticCustomError("truth", "Input should be no truth value")
        return in_digits(value) if is_whole(annotation) else value


def is_whole(annotation: object) -> bool:
    """Whether a field of this type holds a whole number."""
    return annotation is int or any(map(is_whole, get_args(annotation)))


def in_digits(value: object) -> object:
    """The value, which is to be a whole number. Raises PydanticCustomError where it is written as another one."""
    if isinstance(value, float | str):
        raise PydanticCustomError("whole", "Input should be a whole number, in digits")
    return value


class FieldError(NamedTuple):
    """What is wrong with one field. `key` is its path with dots, empty for the document as a whole."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


def first_error(error: ValidationError) -> FieldError:
    """The first of pydantic's errors, without the value that was found."""
    first = error.errors(include_input=False, include_url=False)[0]
    return FieldError(".".join(str(part) for part in first["loc"]), first["msg"])


def settings_faults(model: type[Settings], error: ValidationError) -> str:
    """All that is wrong with settings, in words: each key, what was found, and what may be meant by an unknown one."""
    faults = "; ".join(_fault(model, fault) for fault in error.errors(include_url=False))
    return faults if faults.endswith("?") else f"{faults}."


def _fault(model: type[Settings], fault: "ErrorDetails") -> str:
    key, found = ".".join(map(str, fault["loc"])), f"{fault['input']!r:.40}"
    if not key:
        return str(fault["msg"])
    if fault["type"] == "extra_forbidden":
        near = _near(model, fault["loc"])
        return f"{key} is no setting" + (f"; did you mean {near}?" if near else "")
    if fault["type"] in ("model_type", "dict_type"):
        one = next(iter(_keys(model, fault["loc"])), "NAME")
        return f"{key} is {found}, but it is a table: set {key}.{one}, or others of it"
    expected = _EXPECTED.get(fault["type"])
    should = f"it should be {expected}" if expected else str(fault["msg"]).replace("Input", "it", 1)
    return f"{key} is {found}, but {should}"


def _near(model: type[Settings], location: tuple[int | str, ...]) -> str | None:
    """The setting that is meant, perhaps: one that is spelt nearly so, or one of that name in another table."""
    *table, name = map(str, location)
    near = [".".join([*table, one]) for one in get_close_matches(name, _keys(model, table), 1)]
    near += [f"{inner}.{name}" for inner in model.model_fields if name in _keys(model, [inner])]
    return next(iter(near), None)


def _keys(model: type[BaseModel], table: Sequence[int | str]) -> list[str]:
    """The keys of a table within the settings, none of what is no table of fixed keys."""
    for name in table:
        field = model.model_fields.get(str(name))
        kinds = () if field is None else (field.annotation, *get_args(field.annotation))
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)
