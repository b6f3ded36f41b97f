"""pytest's fixtures for programs that use aiorsmq. Imports nothing before one of them is used."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..client import AsyncRSMQ
    from ..queue import Queue
    from ..sync import RSMQ
    from .server import Server


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("aiorsmq")
    text = "the server for the fixtures rsmq_server, rsmq and rsmq_queue; or set RSMQ_TEST_URL"
    group.addoption("--rsmq-url", metavar="URL", help=f"{text}. Default: start one.")


@pytest.fixture(scope="session")
def rsmq_server(request: pytest.FixtureRequest) -> Generator[Server]:
    """A real server for all tests, started at the first use: `url`, and `redis` to look into it."""
    from ..errors import EmbeddedServerError  # noqa: PLC0415
    from .server import rsmq_test_server  # noqa: PLC0415

    with ExitStack() as stack:
        try:
            url = request.config.getoption("rsmq_url")
            server = stack.enter_context(rsmq_test_server(url))
        except EmbeddedServerError as error:
            complaint = str(error)
        else:
            yield server
            return
    pytest.fail(complaint, pytrace=False)


@pytest.fixture
def rsmq_namespace(rsmq_server: Server) -> Generator[str]:
    """A namespace that only this test uses, for clients that a program makes for itself. Its keys
    are removed at the end of the test.
    """
    with rsmq_server.namespace() as ns:
        yield ns


@pytest.fixture
def rsmq(
    rsmq_server: Server, rsmq_namespace: str, request: pytest.FixtureRequest
) -> Generator[AsyncRSMQ]:
    """A client in `rsmq_namespace`, for a test in any event loop. The test need not close it, but
    is an error if it leaves a worker or a stream of it running.
    """
    from .keeper import LeftRunning  # noqa: PLC0415

    failures = request.session.testsfailed
    complaint = ""
    try:
        with rsmq_server.client(rsmq_namespace) as client:
            yield client
    except LeftRunning as error:
        complaint = str(error)
    test_has_failed = request.session.testsfailed > failures  # and had no time to clean up
    if complaint and not test_has_failed:
        pytest.fail(complaint, pytrace=False)


@pytest.fixture
def rsmq_sync(rsmq_server: Server, rsmq_namespace: str) -> Generator[RSMQ]:
    """A client of `aiorsmq.sync` in `rsmq_namespace`, closed at the end of the test."""
    from ..sync import RSMQ  # noqa: PLC0415

    with RSMQ.from_url(rsmq_server.url, ns=rsmq_namespace) as client:
        yield client


@pytest.fixture
def rsmq_queue(rsmq_server: Server, rsmq_namespace: str, rsmq: AsyncRSMQ) -> Queue[str]:
    """The queue "jobs" of `rsmq`, which exists already, with RSMQ's defaults and text as bodies."""
    rsmq_server.create_queue(rsmq_namespace, "jobs")
    return rsmq.queue("jobs")
