"""What is written as JSON or read from TOML, as pydantic models: the common bases, and a reader's fault in words."""

from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic_core import PydanticCustomError


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
