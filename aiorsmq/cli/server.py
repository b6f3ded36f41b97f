"""Which server a command is for."""

import builtins
import socket
import ssl
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Final

from cyclopts import Parameter
from redis.exceptions import AuthenticationError, ConnectionError, RedisError, TimeoutError

from ..client import AsyncRSMQ
from .errors import NotDone, Unreachable

OUTAGE: Final = (
    *(ConnectionError, TimeoutError),
    *(builtins.ConnectionError, builtins.TimeoutError, socket.gaierror, ssl.SSLError),
)
"""What calls raise while the server cannot be reached. Any other OSError is of a file."""


@Parameter(name="*")
@dataclass(frozen=True)
class Server:
    """Which server, and which of its queues."""

    url: Annotated[str, Parameter(env_var=["AIORSMQ_URL", "REDIS_URL"])] = "redis://127.0.0.1:6379"
    """redis://, rediss://, unix://, embedded://, redis+sentinel://host:port,host:port/service or
    redis+cluster://host:port,host:port; a password is percent-encoded."""
    ns: Annotated[str, Parameter(env_var="AIORSMQ_NS")] = "rsmq"
    """The namespace of the queues; in a cluster with a hash tag, as {rsmq}."""
    deadline: Annotated[float, Parameter(env_var="AIORSMQ_DEADLINE")] = 10
    """Seconds that a call may take."""

    @asynccontextmanager
    async def connect(
        self, *, realtime: bool = True, connect_timeout: float = 0
    ) -> AsyncGenerator[AsyncRSMQ]:
        """A client for the block. What the server, or the way to it, makes fail in the block is
        raised as Unreachable or NotDone: in one line that names the address and no password."""
        rsmq = AsyncRSMQ.from_url(
            self.url,
            ns=self.ns,
            deadline=self.deadline,
            realtime=realtime,
            connect_timeout=connect_timeout,
        )
        async with rsmq:
            with readable_errors(rsmq):
                yield rsmq


@contextmanager
def readable_errors(rsmq: AsyncRSMQ) -> Generator[None]:
    """Raise Unreachable or NotDone, as `Server.connect` does."""
    try:
        yield
    except BrokenPipeError:  # of stdout; redis-py has errors of its own
        raise
    except AuthenticationError as error:
        raise NotDone(f"{rsmq.address} refuses the login: {error}") from error
    except OUTAGE as error:
        raise Unreachable(f"cannot reach {rsmq.address}: {error}") from error
    except RedisError as error:
        hint = "; see aiorsmq doctor" if "maxmemory" in str(error) else ""
        raise NotDone(f"{rsmq.address} refuses that: {error}{hint}") from error


DEFAULT_SERVER: Final = Server()
"""Stands for what the environment or the flags say."""
