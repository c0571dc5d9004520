"""What was read from a connection, seen at a glance: one whole request and nothing else, or not.

A service that is full says no to most of what it reads. To make a request of each first, with its headers, its body
and a task, costs more than all the rest of saying no.
"""

import httptools


class Glance:
    """Reads heads with the same parser as everything else, which makes nothing of them but a method and a target.

    Where one body ends and what comes next begins is that parser's word here as there: no refusal is of half a request,
    and none leaves a rest that would be taken for the next one.
    """

    def __init__(self) -> None:
        self._renew()

    def target(self, data: bytes) -> tuple[str, bytes] | None:
        """Method and target of the one request that `data` is; None for less, more, no HTTP, an offer of another
        protocol, or the last request of its connection.
        """
        self._target, self._begun, self._whole = b"", 0, False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._whole = False
        if self._whole and self._begun == 1:
            return self._parser.get_method().decode("ascii"), self._target
        self._renew()  # it stands amid a request that another parser reads on
        return None

    def _renew(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self._begun += 1

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_message_complete(self) -> None:
        parser = self._parser
        # An older client takes a connection for one that is kept only where its answer says so, which no refusal does.
        current = parser.get_http_version() == "1.1"
        self._whole = current and parser.should_keep_alive() and not parser.should_upgrade()
