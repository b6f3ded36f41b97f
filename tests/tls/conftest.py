"""A server that speaks TLS, and certificates.

The servers that come in wheels are built without TLS. These tests need another: AIORSMQ_TEST_SERVER
names it, or `redis-server` is on PATH. Without one they fail.
"""

import os
import shutil
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
import trustme
from aiorsmq import AsyncRSMQ

from support import free_port

HOUR = timedelta(hours=1)


class Files(NamedTuple):
    """A certificate with its key."""

    certificate: str
    key: str

    @property
    def options(self):
        """redis-py's."""
        return {"ssl_certfile": self.certificate, "ssl_keyfile": self.key}


class Authority:
    """A certificate authority; its own certificate is in the file `path`."""

    def __init__(self, folder):
        folder.mkdir()
        self.path = f"{folder}/ca.pem"
        self._ca = trustme.CA()
        self._folder = folder
        self._ca.cert_pem.write_to_path(self.path)

    def issue(self, name, *, lasts=HOUR):
        """A certificate for a host, which ends after a time from now, or before now."""
        now = datetime.now(UTC)
        issued = self._ca.issue_cert(name, not_before=now - 2 * HOUR, not_after=now + lasts)
        files = Files(f"{self._folder}/{name}{lasts}.pem", f"{self._folder}/{name}{lasts}.key")
        issued.private_key_pem.write_to_path(files.key)
        for piece in issued.cert_chain_pems:
            piece.write_to_path(files.certificate, append=True)
        return files


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "own")


@pytest.fixture
def foreigner(tmp_path):
    """An authority that nobody here trusts."""
    return Authority(tmp_path / "foreign")


@pytest.fixture(scope="session")
def tls_binary():
    """A server that knows TLS."""
    binary = os.environ.get("AIORSMQ_TEST_SERVER") or shutil.which("redis-server")
    assert binary, "these tests need a server with TLS: see AIORSMQ_TEST_SERVER in conftest.py"
    return binary


@pytest.fixture
def tls_server(own_server, authority, tls_binary, monkeypatch):
    """`tls_server(*options)`: a server on a TLS port, `server.tls_port`. Its certificate is for
    "localhost", if no other is given; it asks for no client certificate.
    """
    monkeypatch.setenv("AIORSMQ_TEST_SERVER", tls_binary)

    def start(*options, files=None):
        files = files or authority.issue("localhost")
        port = free_port()
        server = own_server(
            *("--tls-port", str(port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", files.certificate, "--tls-key-file", files.key),
            *("--tls-ca-cert-file", authority.path, *options),
        )
        server.tls_port = port
        server.tls_url = f"rediss://localhost:{port}"
        return server

    return start


@pytest.fixture
def trusting(authority):
    """`trusting(server, **options)`: a client that trusts the authority."""

    def connect(server, **options):
        return AsyncRSMQ.from_url(server.tls_url, **({"ssl_ca_certs": authority.path} | options))

    return connect
