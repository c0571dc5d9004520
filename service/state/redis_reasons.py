"""Why a Redis does not do what it is asked, in our words: for /readyz, the log and the last line of a command."""

import os
import re
import ssl
from pathlib import Path

from redis.exceptions import AuthenticationError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from service.state.redis_address import RedisAddress

# What Redis says by its first word, in our words. The first are met with some users' keys and not with others'.
CLUSTER = "it is one node of a Redis Cluster, and other nodes have some of the users"
NO_CLUSTER = "it is no Redis Cluster"
NO_SLOTS = "it has no slots, and knows no node of the Redis Cluster that has"
WRONG_TYPE = "it holds something else under a user's key"
REDIRECTED = ("MOVED", "ASK", "TRYAGAIN")
SOME_USERS = {**dict.fromkeys((*REDIRECTED, "CROSSSLOT"), CLUSTER), "WRONGTYPE": WRONG_TYPE}
ALL_USERS = {
    "CLUSTERDOWN": "it is one node of a Redis Cluster that is down",
    "MASTERDOWN": "it is a replica that has lost its master",
    "READONLY": "it is a replica, which takes no writes",
    "LOADING": "it is loading its data",
    "NOAUTH": "it asks for a password",
    "WRONGPASS": "it refuses the password",
    "NOPERM": "it does not allow its user what the service needs",
    "OOM": "it has no memory left",
    "MISCONF": "it cannot write to its disk",
    "BUSY": "a script of another program keeps it busy",
    "NOREPLICAS": "it has fewer replicas than it wants to write (min-replicas-to-write)",
    "DENIED": "it takes no connections from elsewhere without a password (protected-mode)",
}
UNKNOWN = "it does not know a command that the service needs: a Sentinel, or a command that was renamed"
# Met with some commands and not with others: an erasure needs more of them than a write.
SOME_COMMANDS = (ALL_USERS["NOPERM"], UNKNOWN)
# What it begins with `ERR`, and not always with that, is known by a part of the rest.
PHRASES = {
    "unknown command": UNKNOWN,
    "Unknown Redis command": UNKNOWN,
    "can't run this command": ALL_USERS["NOPERM"],
    "ACL failure in script": ALL_USERS["NOPERM"],
    "can't access at least one of the keys": ALL_USERS["NOPERM"],
    "DB index is out of range": "it has no database of the number that the URL ends with",
    "cluster support disabled": NO_CLUSTER,
    "without any password configured": "it has no password, and the URL has one",
    "max number of clients": "it has as many clients as it takes",
}
# Why its certificate does not pass, by OpenSSL's number.
SIGNED = "nobody whom the service trusts has signed its certificate"
CERTIFICATE = {
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    **dict.fromkeys((18, 19, 20, 21), SIGNED),
    **dict.fromkeys((62, 64), "its certificate is another host's"),
}
LATE = (TimeoutError, RedisTimeout)
GONE = (OSError, RedisConnectionError)
FORBIDDEN = "the system does not allow the connection"
NO_REDIS = "what answers there is no Redis"


def refusal(code: str, error: Exception) -> str:
    """Why Redis refuses all users, by the first of its words, or by a phrase in the rest."""
    words = str(error)
    phrased = (reason for phrase, reason in PHRASES.items() if phrase in words)
    other = ALL_USERS["WRONGPASS"] if isinstance(error, AuthenticationError) else f"it refuses: {code}"
    return ALL_USERS.get(code) or next(phrased, other)


def is_for_good(error: ResponseError) -> bool:
    """Whether Redis refuses the command as such, which another try does not change: it does not know it, or does not
    allow it."""
    return refusal(words_of(error)[0], error) in SOME_COMMANDS


def is_said(error: Exception) -> bool:
    """Whether Redis has said that. The client calls some of it an error of the connection, and of its own it says only
    of a password that it is wrong."""
    return isinstance(error, ResponseError | AuthenticationError) or getattr(error, "status_code", None) is not None


def _fault(error: Exception, address: RedisAddress) -> tuple[str, str] | None:
    """What in our system or in TLS kept a connection from being made, in our words and in others', which name no
    address and no file."""
    match error.__cause__ or error.__context__ or error:
        case ssl.SSLCertVerificationError(verify_code=code):
            return CERTIFICATE.get(code, "its certificate is not accepted"), f"verify code {code}"
        case ssl.SSLError(reason=word) if "CERTIFICATE_REQUIRED" in str(word):
            return "it asks for a certificate: ssl_certfile and ssl_keyfile in the URL", str(word)
        case ssl.SSLError(reason=word):
            return "it does not agree on TLS, or a file of the URL holds no certificate or key", str(word)
        case OSError() as fault if not all(map(_is_readable, _files(address))):
            return "a file that the URL names for TLS cannot be read", type(fault).__name__
        case PermissionError() as fault:
            return FORBIDDEN, type(fault).__name__
    return None


def _files(address: RedisAddress) -> list[str]:
    named = map(address.tls_options.get, ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"))
    return [path for path in named if isinstance(path, str) and path]


def _is_readable(path: str) -> bool:
    return os.access(path, os.R_OK) and not Path(path).is_dir()


def reason_for(error: Exception, address: RedisAddress) -> tuple[str, str]:
    """Why there is no asking the Redis at `address`, and the words for the log: Redis' own, or less."""
    if is_said(error):
        code, words = words_of(error)
        return SOME_USERS.get(code) or refusal(code, error), words
    # The words of the others are the client's own and name the address: the type says enough.
    if isinstance(error, LATE):
        return "it does not answer in time", type(error).__name__
    if told := _fault(error, address):
        return told
    unconnected = isinstance(error, GONE)
    return "it cannot be reached" if unconnected else NO_REDIS, type(error).__name__


def words_of(error: Exception) -> tuple[str, str]:
    """The first word of what Redis says, and all of it, less a command that it repeats: that would have ids."""
    words = str(error).partition(", with args")[0][:200]
    code = getattr(error, "status_code", None)
    if code is not None:
        words = f"{code} {words}"
    # Before version 7 the word of an error within a script stands further on.
    known = [word for word in re.findall(r"[A-Z]+", words) if word in SOME_USERS or word in ALL_USERS]
    return known[0] if known else words.split(" ")[0], words
