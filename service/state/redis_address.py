"""Where a Redis or the nodes of a cluster are, from a URL. It holds a password, so nothing repeats a part of one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, unquote, urlsplit

from bundle.errors import ConfigError

TLS_OPTIONS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis behind `host` and `port`, or behind the socket file `path`."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    database: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    tls_options: Mapping[str, str | bool] = field(default_factory=dict)
    clustered: bool = False

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port


def redis_addresses(url: str) -> tuple[RedisAddress, ...]:
    """What `url` says: of redis+cluster:// or rediss+cluster:// (TLS) the nodes that it names, else the one Redis.

    Raises ConfigError, which does not say what was found.
    """
    scheme, cluster, rest = url.partition("+cluster://")
    if not cluster or scheme not in ("redis", "rediss"):
        return (redis_address(url),)
    head, slash, end = rest.partition("/")
    credentials, at, hosts = head.rpartition("@")
    nodes = [redis_address(f"{scheme}://{credentials}{at}{host}{slash}{end}") for host in hosts.split(",")]
    if any(node.database for node in nodes):
        raise _unfit("a Redis Cluster has database 0 alone")
    return tuple(replace(node, clustered=True) for node in nodes)


def redis_address(url: str) -> RedisAddress:
    """What `url` says: redis://, rediss:// (TLS) or unix://. Raises ConfigError, which does not say what was found."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its words repeat what was found
        raise _unfit("the part after // is no host and port") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise _unfit("it must begin with redis://, rediss://, redis+cluster://, rediss+cluster:// or unix://")
    # A `/`, `?` or `#` in a password ends the host there: what is read as the host would be the password's beginning.
    if parts.fragment or "@" in parts.path + parts.query:
        raise _unfit("/ ? # and @ in a password are written %2F %3F %23 and %40")
    user = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme == "unix":
        database = _database(options.pop("db", ""))
        if options or not parts.path:
            raise _unfit("unix:// takes the path of a socket, and ?db= a number")
        return RedisAddress(path=unquote(parts.path), database=database, user=user, password=password)
    if not parts.hostname or not _is_host(parts.hostname):
        raise _unfit("it names no host")
    database = _database(options.pop("db", "") or parts.path.removeprefix("/"))
    tls = parts.scheme == "rediss"
    if not set(options) <= set(TLS_OPTIONS if tls else ()):
        raise _unfit(f"its options may be db and, after rediss://, {', '.join(TLS_OPTIONS)}")
    return RedisAddress(parts.hostname, port or 6379, None, database, user, password, tls, _tls_options(options))


def _is_host(name: str) -> bool:
    """Whether a machine could be called so: no part of a name is empty or longer than 63 letters."""
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False


def _tls_options(options: Mapping[str, str]) -> dict[str, str | bool]:
    if options.get("ssl_cert_reqs", "required") not in ("none", "optional", "required"):
        raise _unfit("ssl_cert_reqs is none, optional or required")
    check = options.get("ssl_check_hostname")
    if check not in (None, "true", "false"):
        raise _unfit("ssl_check_hostname is true or false")
    return {**options} if check is None else {**options, "ssl_check_hostname": check == "true"}


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise _unfit("what follows the host must be the number of a database")
    return int(text or 0)


def _unfit(why: str) -> ConfigError:
    return ConfigError(
        f"The Redis URL of TWHIN_REDIS_URL, its file or --redis is none such as redis://:password@host:6379/0: {why}."
    )
