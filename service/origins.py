"""What a web page may not do: reach the service under a name of its own (DNS rebinding), and write from elsewhere."""

import ipaddress

from service.problems import Problem
from service.settings import Settings, is_address

LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Host headers that were accepted are remembered, so that a request pays for one look-up.
REMEMBERED = 1000


class Origins:
    """The names that requests may be addressed to, and the origins whose pages may write."""

    def __init__(self, settings: Settings) -> None:
        self._names = frozenset(name.lower() for name in settings.hosts)
        self._local = self._names <= {*LOOPBACK}
        self._may_write = frozenset(settings.cors_origins)
        self._accepted: set[str] = set()

    def check_host(self, host: str | None) -> None:
        """Raises Problem 421 where `host` (the header) is a name that the service does not answer for.

        A page can make its own name lead to any address, and then reads and writes as its own; the browser still says
        the name. An address cannot be made to lead elsewhere: it is accepted, unless only this machine is to be.
        """
        if host is None or not self._names or host in self._accepted:
            return
        name = _without_port(host.lower())
        if not ({name, "*"} & self._names or self._is_address(name)):
            raise Problem("host_unknown", "the service does not answer for that name: TWHIN_HOSTS lists those it does")
        if len(self._accepted) < REMEMBERED:
            self._accepted.add(host)

    def _is_address(self, name: str) -> bool:
        return is_address(name) and (not self._local or ipaddress.ip_address(name).is_loopback)

    def check_writer(self, host: str | None, origin: str | None, site: str | None) -> None:
        """Raises Problem 403 for a write by a page from elsewhere. `origin` and `site` are what the browser says of it
        in `Origin` and `Sec-Fetch-Site`; whatever is no browser says neither.
        """
        if (origin is None and site is None) or site in ("same-origin", "none"):
            return
        if origin is not None and not self._may_write.isdisjoint((origin, "*")):
            return
        if site is None and origin is not None and host is not None and origin.partition("://")[2] == host:
            return
        raise Problem("origin_refused", "pages of that origin may not write: TWHIN_CORS_ORIGINS lists those that may")


def _without_port(host: str) -> str:
    if host.startswith("["):
        address, closing, _ = host[1:].partition("]")
        return address if closing else host
    return host if host.count(":") > 1 else host.partition(":")[0]
