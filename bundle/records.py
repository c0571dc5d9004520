"""What is written as JSON or read from TOML, as pydantic models: the common bases, and a reader's fault in words."""

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError


class Record(BaseModel):
    """Frozen and closed: an unknown or misspelt key is an error, not a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StrictRecord(Record):
    """A record whose values must have the very types of its fields: `"3"` is no number."""

    model_config = ConfigDict(strict=True)


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
