"""Every setting of the service, read from the environment (`TWHIN_…`) or given by the command."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bundle.errors import ConfigError
from bundle.records import in_digits, is_whole
from bundle.text import read_text
from service.state.redis_address import redis_addresses

Share = Annotated[float, Field(gt=0.0, le=1.0)]
# Timers of the system take no more than some billions of seconds, and nobody means more than a day.
DAY = 86_400
Seconds = Annotated[float, Field(gt=0, le=DAY)]
WholeSeconds = Annotated[int, Field(gt=0, le=DAY)]
Milliseconds = Annotated[int, Field(gt=0, le=1000 * DAY)]
# JSON and the store count no further than some 64 bits, and nobody means more than this.
Count = Annotated[int, Field(gt=0, le=10**9)]
# These are answered before anything is served, and compared all at once.
Queries = Annotated[int, Field(ge=0, le=100_000)]
NAME = re.compile(r"\*|[A-Za-z0-9._-]*[A-Za-z0-9_-]\.?")
ORIGIN = re.compile(
    r"\*|null|[a-z][a-z0-9+.-]*://(?:(?P<name>[a-z0-9._-]*[a-z0-9_-]\.?)|\[(?P<ipv6>[0-9a-f:.]+)\])(?::(?P<port>[1-9][0-9]{0,4}))?"
)
USUAL_PORT = re.compile(r"((?:^http:.+)(?=:80$)|(?:^https:.+)(?=:443$)):[0-9]+$")
MOST_PORTS = 65535
DIGITS = re.compile(r"\s*-?[0-9]+\s*", re.ASCII)


def address_of(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address of IPv4 or IPv6 that `name` is, if it is one."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


class Variables(BaseSettings):
    """Settings that may be texts of the environment: a whole number is written in digits there too."""

    @model_validator(mode="before")
    @classmethod
    def _read_texts(cls, values: dict[str, object]) -> dict[str, object]:
        """A list is separated by commas; any other setting that is set to nothing is as if it were not set."""
        lists = {name for name, field in cls.model_fields.items() if isinstance(field.default, tuple)}
        for name, value in values.items():
            if isinstance(value, str) and not (_is_utf8(value) or _is_path(cls.model_fields[name].annotation)):
                raise ConfigError(f"TWHIN_{name.upper()} is not UTF-8")
        return {
            name: _items(name, value) if name in lists and isinstance(value, str) else value
            for name, value in values.items()
            if name in lists or value != ""
        }

    @field_validator("*", mode="before")
    @classmethod
    def _whole_numbers_are_digits(cls, value: object, info: Any) -> object:
        if not is_whole(cls.model_fields[str(info.field_name)].annotation):
            return value
        return value if isinstance(value, str) and DIGITS.fullmatch(value) else in_digits(value)


class Limits(Variables):
    """What one request may ask for; `/v1/info` and the OpenAPI document list them."""

    model_config = SettingsConfigDict(env_prefix="TWHIN_", frozen=True, extra="forbid", hide_input_in_errors=True)

    k_max: Count = Field(default=1000, description="most candidates or neighbours in one answer")
    batch_max: Count = Field(default=64, description="most users in one /recommend:batch")
    lookup_max: Count = Field(default=1000, description="most ids in one look-up, and most pairs in one /v1/score")
    exclude_max: Count = Field(default=10_000, description="most ids in `exclude`")
    engagements_max: Count = Field(
        default=1000, description="most engagements in one request, inline or posted, and most events of feedback"
    )
    events_per_user_max: Count = Field(default=10_000, description="stored events of one user beyond which none adds")
    body_max_bytes: Count = Field(default=2 << 20, description="largest request body, counted as it arrives")
    timeout_ms: Milliseconds = Field(default=2000, description="time a request may take when it names no deadline")
    timeout_max_ms: Milliseconds = Field(
        default=10_000, description="longest deadline that X-Request-Timeout-Ms may ask for"
    )
    concurrency_max: Count = Field(default=256, description="requests in work at once in one worker; more get 503")
    search_queue_max: Count = Field(
        default=512, description="searches waiting for the search thread, one for each user of a batch; more get 503"
    )


class Settings(Variables):
    """Where the versions are, where live engagements are kept, who may call, and how updates are taken."""

    model_config = SettingsConfigDict(env_prefix="TWHIN_", frozen=True, extra="forbid", hide_input_in_errors=True)

    bundles: Path = Field(
        default=Path("bundles"), description="directory of versions; CURRENT in it names the one to serve"
    )
    limits: Limits = Field(default_factory=Limits, description="limits of one request; see the rows with a number")

    state: Path | None = Field(
        default=None, description="SQLite file of live engagements; default: BUNDLES/.state/events.db"
    )
    redis_url: SecretStr | None = Field(default=None, description="Redis for live engagements, shared by replicas")
    redis_url_file: Path | None = Field(
        default=None, description="file with that URL, so that its password stands in no environment"
    )
    redis_prefix: str = Field(default="twhin", description="first part of every Redis key")
    redis_timeout_ms: Milliseconds = Field(
        default=50, description="time each reply of Redis to a read may take; a read has at most three"
    )
    redis_write_timeout_ms: Milliseconds = Field(
        default=500, description="the same for a write, which is not waited for by anybody who looks at candidates"
    )
    redis_connections: Count = Field(
        default=16, description="connections to Redis in one worker for reads, and as many for writes"
    )
    redis_retry_seconds: Seconds = Field(default=1.0, description="mean wait before a failed Redis is probed again")

    experiments: Path | None = Field(
        default=None, description="TOML file of experiments; default: BUNDLES/experiments.toml, if there is one"
    )

    read_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="API keys, comma separated: look-ups"
    )
    write_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="API keys: look-ups and engagements"
    )
    admin_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="API keys: everything, and /admin, which is off without one"
    )
    metrics_open: bool = Field(default=True, description="whether /metrics needs no key")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="origins that browsers may call from"
    )

    hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="names that requests may be addressed to (Host), comma separated; default: those of this machine "
        "where `serve` listens on loopback alone, else any",
    )
    root_path: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = Field(
        default="", description="path under which a proxy publishes the service, as `/twhin`; `/docs` needs it"
    )

    watch_seconds: Seconds = Field(default=5.0, description="mean time between looks at CURRENT")
    verify: bool = Field(
        default=True,
        description="whether versions are checked byte by byte at start and for look-ups, as always before a swap",
    )
    versions_kept: Count = Field(default=3, description="older versions kept open for look-ups that name one")
    warm_up_queries: Queries = Field(default=64, description="real queries answered before a version serves")
    self_test_queries: Queries = Field(
        default=32, description="queries compared with exact search before a version serves"
    )
    self_test_recall: float = Field(default=0.8, ge=0, le=1, description="recall below which a version is refused")

    search_batch: Count = Field(default=16, description="searches done in one call, if they wait already")
    depth_floor: Share = Field(default=0.5, description="share of the search depth that is kept under overload")
    drain_seconds: Annotated[float, Field(ge=0, le=DAY)] = Field(
        default=2.0, description="time between /readyz turning 503 and no more connections"
    )
    shutdown_seconds: WholeSeconds = Field(default=15, description="time that requests have to finish after that")
    keep_alive_seconds: WholeSeconds = Field(
        default=75, description="time an idle connection stays open: longer than the 60 of the usual load balancers"
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level that is logged"
    )
    log_format: Literal["json", "text"] = Field(
        default="json", description="one JSON object a line, or text for people"
    )
    access_log: Literal["none", "errors", "all"] = Field(
        default="errors", description="which requests are logged; those refused unread a second's worth in a line"
    )
    otlp_endpoint: SecretStr | None = Field(
        default=None, description="OTLP/HTTP collector for traces; needs the [otel] extra"
    )
    otlp_metrics_endpoint: SecretStr | None = Field(
        default=None, description="OTLP/HTTP collector for metrics; needs the [otel] extra"
    )
    trace_share: Share = Field(default=0.01, description="share of requests traced when the caller did not decide")

    @model_validator(mode="after")
    def _check_redis_url(self) -> "Settings":
        url = self.shared_store_url()
        if url is not None:
            redis_addresses(url)
        return self

    def shared_store_url(self) -> str | None:
        """The URL of the Redis, wherever it was given; None without one. Raises ConfigError."""
        if self.redis_url_file is None:
            return None if self.redis_url is None else self.redis_url.get_secret_value().strip()
        if self.redis_url is not None:
            raise ConfigError("TWHIN_REDIS_URL and TWHIN_REDIS_URL_FILE are both set: keep one of them")
        try:
            return read_text(self.redis_url_file).strip()
        except OSError as error:
            raise ConfigError(f"TWHIN_REDIS_URL_FILE: {self.redis_url_file} cannot be read: {error.strerror}") from None

    @field_validator("cors_origins")
    @classmethod
    def _as_browsers_write_them(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        """An origin has no path, no capitals, no usual port and nothing but ASCII: browsers send
        `https://ranker.example` for the page at `https://Ranker.example:443/`. What no browser sends would allow
        nobody, without a word.
        """
        written = [_shortest(USUAL_PORT.sub(r"\1", origin.rstrip("/").lower())) for origin in origins]
        if not all(map(_is_origin, written)):
            raise ConfigError(
                "TWHIN_CORS_ORIGINS: an origin is a scheme and a host, maybe a port, as https://ranker.example (or * "
                "for all), without a path or a pattern"
            )
        return tuple(written)

    @field_validator("hosts")
    @classmethod
    def _names_alone(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        """Ports do not count, and what is no name would let nobody in."""
        names = [host.removeprefix("[").removesuffix("]") for host in hosts]
        if not all(NAME.fullmatch(name) or address_of(name) for name in names):
            raise ConfigError(
                "TWHIN_HOSTS: a name stands alone, as api.example (or * for all), without a scheme, a port, a "
                "path or a pattern"
            )
        return tuple(names)

    @property
    def state_path(self) -> Path:
        """The SQLite file: as set, or hidden beside the versions."""
        return self.state or self.bundles / ".state" / "events.db"

    @property
    def experiments_path(self) -> Path:
        """The file of experiments: as set, or beside the versions."""
        return self.experiments or self.bundles / "experiments.toml"

    @property
    def open_to_all(self) -> bool:
        """Whether no key is configured at all."""
        return not (self.read_keys or self.write_keys or self.admin_keys)


def _shortest(origin: str) -> str:
    """The origin with an address of IPv6 in its shortest form."""
    before, opening, rest = origin.partition("[")
    name, closing, after = rest.partition("]")
    return f"{before}{opening}{address_of(name) or name}{closing}{after}"


def _is_origin(text: str) -> bool:
    """Whether a browser may send it: a name that ends in a number is an address to it."""
    found = ORIGIN.fullmatch(text)
    if found is None:
        return False
    name = found["ipv6"] or (found["name"] or "").removesuffix(".")
    is_address = bool(found["ipv6"]) or name.rpartition(".")[2].isdecimal()
    return (address_of(name) is not None or not is_address) and int(found["port"] or 0) <= MOST_PORTS


def _is_utf8(text: str) -> bool:
    """Whether `text`, of the environment, is what the bytes there mean and not bytes that mean nothing."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_path(annotation: Any) -> bool:
    """Whether it is the type of a path, maybe None: a file may be called by any bytes."""
    return Path in (annotation, *get_args(annotation))


def _items(name: str, text: str) -> tuple[str, ...]:
    items = tuple(part.strip() for part in text.split(",") if part.strip())
    if not items:
        # An empty list of keys would open the service to everybody, where somebody meant to close it.
        raise ConfigError(f"TWHIN_{name.upper()} is set but names nothing: unset it, or list what it should hold")
    return items
