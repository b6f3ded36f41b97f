"""The server on a TCP port too, and the three RSMQs on it."""

import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from interop.peers import QNAME, Node, Ours, PyRSMQ
from support import Server


class TcpServer(Server):
    """A server that Node and PyRSMQ can reach as their users' servers are reached."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        super().__init__(folder, "--port", str(self.port), "--bind", "127.0.0.1")

    def visible_at(self, id: str) -> int:
        """The score of a message, in ms; fails if the text that Redis keeps is not an integer's."""
        return int(
            self.redis.eval("return redis.call('ZSCORE', KEYS[1], ARGV[1])", 1, f"rsmq:{QNAME}", id)
        )

    def message_fields(self) -> set[str]:
        """The fields of messages on the queue's hash."""
        fields = {field.decode() for field in self.redis.hkeys(f"rsmq:{QNAME}:Q")}
        fields -= {"vt", "delay", "maxsize", "created", "modified", "totalsent", "totalrecv"}
        return fields - {"max_receives", "dead_letter_queue", "paused"}


@pytest.fixture(scope="session")
def running_server():
    folder = Path(tempfile.mkdtemp(prefix="aiorsmq-interop-", dir="/tmp"))
    server = TcpServer(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def start_node(server):
    """Starts Node's rsmq with the options of its constructor."""
    nodes = []

    async def start(**options):
        nodes.append(await Node.start(server.port, **options))
        return nodes[-1]

    yield start
    for node in nodes:
        await node.aclose()


@pytest.fixture
async def node(start_node):
    return await start_node()


@pytest.fixture
async def pyrsmq(server):
    pyrsmq = PyRSMQ(server.port)
    yield pyrsmq
    await pyrsmq.aclose()


@pytest.fixture
async def ours(rsmq):
    return Ours(rsmq)


@pytest.fixture
def everyone(ours, node, pyrsmq):
    return ours, node, pyrsmq


PAIRS = [("ours", "node"), ("node", "ours"), ("ours", "pyrsmq"), ("pyrsmq", "ours")]


@pytest.fixture(params=PAIRS, ids=["-then-".join(pair) for pair in PAIRS])
def pair(request):
    """Ours and another, either way round."""
    return tuple(request.getfixturevalue(name) for name in request.param)
