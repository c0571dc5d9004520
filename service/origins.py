"""What a web page may not do: reach the service under a name of its own (DNS rebinding), and write from elsewhere."""

import ipaddress

from service.problems import Problem
from service.settings import Settings, address_of

LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Host headers that were accepted are remembered, so that a request pays for one look-up.
REMEMBERED = 1000
# The port that an origin, or a Host behind it, leaves out.
USUAL_PORTS = {"http": "80", "https": "443"}


class Origins:
    """The names that requests may be addressed to, and the origins whose pages may write."""

    def __init__(self, settings: Settings) -> None:
        self._names = frozenset(map(_canonical, settings.hosts))
        # A service that listens to this machine alone has all of these, and the name that it was given.
        self._local = self._names.issuperset(LOOPBACK) or all(map(_is_of_this_machine, self._names))
        self._may_write = frozenset(settings.cors_origins)
        self._accepted: set[str] = set()

    def check_host(self, host: str | None) -> None:
        """Raises Problem 421 where `host` (the header) is a name that the service does not answer for.

        A page can make its own name lead to any address, and then reads and writes as its own; the browser still says
        the name. An address cannot be made to lead elsewhere: it is accepted, unless only this machine is to be.
        """
        if host is None or not self._names or host in self._accepted:
            return
        name, _ = _name_and_port(host)
        if not ({name, "*"} & self._names or self._is_address(name)):
            raise Problem("host_unknown", "the service does not answer for that name: TWHIN_HOSTS lists those it does")
        if len(self._accepted) < REMEMBERED:
            self._accepted.add(host)

    def _is_address(self, name: str) -> bool:
        return address_of(name) is not None and (not self._local or _is_loopback(name))

    def check_writer(self, host: str | None, origin: str | None, site: str | None) -> None:
        """Raises Problem 403 for a write by a page from elsewhere. `origin` and `site` are what the browser says of it
        in `Origin` and `Sec-Fetch-Site`; whatever is no browser says neither.
        """
        if (origin is None and site is None) or site in ("same-origin", "none"):
            return
        if origin is not None and not self._may_write.isdisjoint((origin, "*")):
            return
        if site is None and origin is not None and host is not None and _is_of(origin, host):
            return
        raise Problem("origin_refused", "pages of that origin may not write: TWHIN_CORS_ORIGINS lists those that may")


def _is_of(origin: str, host: str) -> bool:
    """Whether the page of `origin` came from `host`, as far as that tells: a proxy may say the port that goes without
    saying.
    """
    scheme, _, place = origin.partition("://")
    usual = USUAL_PORTS.get(scheme.lower(), "")
    (name, port), (asked, at) = _name_and_port(place), _name_and_port(host)
    return bool(name) and (name, port or usual) == (asked, at or usual)


def _name_and_port(host: str) -> tuple[str, str]:
    """What is written before and after the colon, the former as `_canonical` has it; an empty port for none."""
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
    else:
        name, _, port = (host, "", "") if host.count(":") > 1 else host.partition(":")
    return _canonical(name), port.removeprefix(":")


def _canonical(name: str) -> str:
    """One writing of a name or an address for all of them: a name in small letters, without the dot that says that it
    is whole; an address of IPv6 in its shortest form, that of an IPv4 in it as this.
    """
    name = name.lower().removesuffix(".")
    address = address_of(name)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return name if address is None else str(mapped or address)


def _is_of_this_machine(name: str) -> bool:
    return name == "localhost" or _is_loopback(name)


def _is_loopback(name: str) -> bool:
    address = address_of(name)
    return address is not None and address.is_loopback
