"""What TLS adds to a connection: warnings about what is not checked, and hints when it fails."""

from __future__ import annotations

import logging
import re
import ssl
from typing import Any, Final, cast

from redis.asyncio import SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, TimeoutError

_logger = logging.getLogger("aiorsmq.startup.tls")

_NO_TLS: Final = "the server may not speak TLS (a redis:// URL connects without)"
_CERTIFICATE: Final = (
    "the server requires a client certificate that it accepts (ssl_certfile and ssl_keyfile)"
)
_NO_TLS_OR_CERTIFICATE: Final = f"{_NO_TLS}, or {_CERTIFICATE}"
_ONLY_TLS: Final = "the server may speak only TLS (connect by a rediss:// URL, or with ssl=True)"
_CUT: Final = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, EOFError)


class Handshakes:
    """What a client has learned of TLS; shared by all of its targets."""

    def __init__(self) -> None:
        self._has_succeeded = False

    def note_success(self, connection: AbstractConnection) -> None:
        """Warn, once, if the server's certificate is not checked, or not the name in it."""
        if not self._has_succeeded:
            self._has_succeeded = True
            if isinstance(connection, SSLConnection):
                _warn(cast(Any, connection).ssl_context.get())

    def explain(self, error: Exception, connection: AbstractConnection) -> Exception:
        """Add to the error of a failed connect what TLS may have to do with it."""
        if type(error) not in (ConnectionError, TimeoutError):
            return error
        hint = None
        if isinstance(connection, SSLConnection):
            hint = _NO_TLS_OR_CERTIFICATE if type(error) is TimeoutError else _tls_hint(error)
        elif not (self._has_succeeded or isinstance(connection, UnixDomainSocketConnection)):
            hint = _ONLY_TLS if type(error) is ConnectionError and _is_cut(error) else None
        return error if hint is None else type(error)(f"{error}; {hint}")


def _warn(context: ssl.SSLContext) -> None:
    if context.verify_mode == ssl.CERT_NONE:
        _logger.warning(
            "the server's certificate is not checked: anybody on the way can read and change "
            "all messages; set ssl_cert_reqs to required, and ssl_ca_certs to the CA's certificate"
        )
    elif not context.check_hostname:
        _logger.warning(
            "the name in the server's certificate is not checked: anybody with another certificate "
            "of the same CA can pretend to be the server; set ssl_check_hostname to True"
        )


def _tls_hint(error: Exception) -> str | None:
    reason = error.__cause__ or error.__context__
    if isinstance(reason, ssl.SSLCertVerificationError):  # it says what is wrong
        return None
    if isinstance(reason, ssl.SSLError):
        is_alert = re.search("ALERT.*(CERTIFICATE|CA)", str(reason))
        return _CERTIFICATE if is_alert else _NO_TLS
    return _NO_TLS_OR_CERTIFICATE if _is_cut(error) else None


def _is_cut(error: Exception) -> bool:
    """Whether the server, or a proxy, has ended the connection, and has not said why."""
    reason = error.__cause__ or error.__context__
    return isinstance(reason, _CUT) or "closed by" in str(error)
