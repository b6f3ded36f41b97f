"""URLs: which kinds there are, and what is wrong with one.

redis-py takes parts of a password that is not percent-encoded for a host, port, path or database.
Therefore no error here quotes a URL, and none is chained to Python's error, which quotes values.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from ..errors import InvalidParameterValue

_ONE_SERVER = ("redis", "rediss", "valkey", "valkeys")
_SCHEMES = (*_ONE_SERVER, "unix")
_SETS: Final = {"sentinel": 26379, "cluster": 6379}
"""What follows a `+` in the scheme of a URL that names several servers, and their usual port."""
_URL_FORMS = (
    "redis://, rediss://, valkey://, valkeys:// or unix://, or be embedded:// or "
    "embedded:///folder, or redis+sentinel://host:port,host:port/service, or "
    "redis+cluster://host:port,host:port"
)
_ENCODE_HINT = 'percent-encode the password: urllib.parse.quote(password, safe="")'

_NAME = r"[\w.-]+"
_IP = rf"[0-9A-Fa-f:.]+(%{_NAME})?"
HOST: Final = re.compile(rf"{_NAME}|{_IP}")
_ADDRESS = re.compile(r"([a-z][a-z-]*(\.[a-z][a-z0-9-]*)*|\d+(\.\d+){3})(:\d{1,5})?(/\d{1,2})?")
"""A host, perhaps with a port and a database, that cannot be taken for a password."""
_PLACE = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*))(?::(.*))?")
"""A host, an IPv6 address in brackets, and perhaps a port."""


class SetUrl(NamedTuple):
    """What a URL says that names several servers: scheme://login@h:p,h:p/path?query."""

    scheme: str
    """As redis-py spells it, with what follows the `+`."""
    login: str
    places: list[tuple[str, int]]
    path: str
    """Without the slashes around it."""
    query: str

    @property
    def kind(self) -> str:
        return self.scheme.partition("+")[2]

    def one_server(self, place: str = "", path: str = "", query: str = "") -> str:
        """The URL of one server, reached in the same way."""
        return f"{self.scheme.partition('+')[0]}://{place}/{path}?{query}"


class _Parts(NamedTuple):
    """A URL of several servers, cut to pieces: urlsplit accepts one host."""

    scheme: str
    login: str
    hosts: list[str]
    path: str
    query: str
    fragment: str


def check_url(url: object) -> str | None:
    """Raise InvalidParameterValue for an unusable URL.

    Returns the folder of an `embedded://` URL ("" if it has none), and None for any other URL.
    """
    text = url.strip() if isinstance(url, str) else ""
    scheme = text.partition("://")[0].lower()
    try:
        if _is_set(scheme):
            fault = _find_set_fault(text)
        else:
            parts = urlsplit(text)
            scheme = parts.scheme
            if scheme == "embedded" and not (parts.netloc or parts.query):
                return unquote(parts.path)
            if scheme in _SCHEMES:
                fault = _find_url_fault(text)
            else:
                address = text if _ADDRESS.fullmatch(text) else "localhost:6379"
                fault = f"must start with {_URL_FORMS}, as in redis://{address}"
    except ValueError:
        fault = f"has an invalid host; {_ENCODE_HINT}"
    if fault is None:
        return None
    is_harmless = not text or _ADDRESS.fullmatch(text)
    shown = url if url is None or (is_harmless and url == text) else redact_url(scheme)
    raise InvalidParameterValue("url", shown, fault)


def split_set_url(url: str) -> SetUrl | None:
    """Take a URL apart that `check_url` has passed; None if it names one server."""
    if not _is_set(url.strip().partition("://")[0].lower()):
        return None
    parts = _cut(url.strip())
    scheme = re.sub("^valkey", "redis", parts.scheme)
    usual_port = _SETS[scheme.partition("+")[2]]
    places = [(host, usual_port if port is None else int(port)) for host, port in _places(parts)]
    return SetUrl(scheme, parts.login, places, parts.path.strip("/"), parts.query)


def redact_url(scheme: str) -> str:
    """Return the scheme of a URL, or nothing of it: `user:password@host` seems to have a scheme."""
    is_known = scheme in (*_SCHEMES, "embedded") or _is_set(scheme)
    return f"{scheme}://..." if is_known else "..."


def _is_set(scheme: str) -> bool:
    before, plus, kind = scheme.partition("+")
    return bool(plus) and before in _ONE_SERVER and kind in _SETS


def _find_url_fault(url: str) -> str | None:
    """Return what is wrong with a URL, without quoting it: any part may belong to a password."""
    parts = urlsplit(url)
    fault = None
    if "@" in parts.query or "#" in url or (parts.netloc and "@" in parts.path):
        fault = "has an @ or # after the host"
    elif re.search(r"[\t\r\n]", url):  # urlsplit removes them
        fault = "contains a line break or tab"
    elif parts.scheme == "unix":
        if not parts.path.strip("/"):
            fault = "has no path; a unix socket needs one, as in unix:///run/socket"
        elif parts.netloc.rpartition("@")[2]:
            fault = "has a host, but a unix socket has only a path, as in unix:///run/socket"
    elif "," in parts.netloc.rpartition("@")[2]:
        fault = (
            f"names several hosts: begin it with {parts.scheme}+sentinel:// and end it with the "
            f"name of a service, or begin it with {parts.scheme}+cluster://"
        )
    elif not _has_valid_port(url):
        fault = "has an invalid port, which must be a number from 0 to 65535"
    elif parts.hostname and not HOST.fullmatch(unquote(parts.hostname)):
        fault = "has an invalid host"
    elif not re.fullmatch(r"/*[0-9]*/*", unquote(parts.path)):
        fault = "has an invalid path, which must be the number of a database, as in /0"
    return fault and f"{fault}; {_ENCODE_HINT}"


def _has_valid_port(url: str) -> bool:
    try:
        _ = urlsplit(url).port
    except ValueError:
        return False
    return True


def _find_set_fault(url: str) -> str | None:
    """As `_find_url_fault`, of a URL that names several servers."""
    parts = _cut(url)
    fault = None
    if "@" in parts.query or parts.fragment or "@" in parts.path:
        fault = "has an @ or # after the hosts"
    elif re.search(r"[\t\r\n]", url):
        fault = "contains a line break or tab"
    elif re.search(r"[\[\]]", urlsplit(f"redis://{parts.login}@host").netloc):
        fault = "has a bracket before the hosts"
    else:
        is_cluster = parts.scheme.endswith("+cluster")
        find_path_fault = _find_database if is_cluster else _find_sentinel_fault
        fault = _find_place_fault(parts)
        if fault is None:
            fault = find_path_fault(parts)
            if "@" not in unquote(url):
                return fault  # there is no password
    return fault and f"{fault}; {_ENCODE_HINT}"


def _find_place_fault(parts: _Parts) -> str | None:
    for text in parts.hosts:
        place = _PLACE.fullmatch(text)
        if place is None or ("[" not in text and text.count(":") > 1):
            return "has an invalid host; IPv6 addresses need brackets, as in [::1]:26379"
        address, name, port = place.groups()
        pattern = _NAME if address is None else _IP
        if not re.fullmatch(pattern, unquote(address or name or "")):
            return "has an invalid host, or none between two commas"
        if port is not None and not (re.fullmatch("[0-9]{1,5}", port) and int(port) <= 65535):
            return "has an invalid port, which must be a number from 0 to 65535"
    return None


def _find_database(parts: _Parts) -> str | None:
    if not re.fullmatch(r"/*0?/*", unquote(parts.path)):
        return "has a path, but a cluster has no other database than 0"
    return None


def _find_sentinel_fault(parts: _Parts) -> str | None:
    path = unquote(parts.path)
    if not path.strip("/"):
        example = f"{parts.scheme}://host:26379,host:26379/mymaster"
        return f"has no name of a service, which the sentinels know it by, as in {example}"
    if not re.fullmatch(rf"/{_NAME}(/[0-9]*)?/*", path):
        return (
            "has an invalid path, which must be the name of a service, as in /mymaster or, with a "
            "database, /mymaster/0"
        )
    return None


def _cut(url: str) -> _Parts:
    scheme, _, address = url.partition("://")
    address, hash_mark, _ = address.partition("#")
    address, _, query = address.partition("?")
    netloc, slash, path = address.partition("/")
    login, _, hosts = netloc.rpartition("@")
    return _Parts(scheme.lower(), login, hosts.split(","), slash + path, query, hash_mark)


def _places(parts: _Parts) -> list[tuple[str, str | None]]:
    found = [_PLACE.fullmatch(text) for text in parts.hosts]
    return [(unquote(place[1] or place[2]), place[3]) for place in found if place is not None]
