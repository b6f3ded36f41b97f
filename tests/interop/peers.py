"""The three RSMQs that share queues here, behind the same verbs: ours, Node's rsmq (see peer.js),
and PyRSMQ.

When one of them refuses to do something, aiorsmq's exception for it is raised.
"""

import asyncio
import itertools
import json
import shutil
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import anyio
import anyio.to_thread
import pytest
import rsmq.cmd.exceptions
from aiorsmq import AsyncRSMQ, Message, QueueAlreadyExists, QueueAttributes, QueueDoesNotExist

from support import PATIENCE

QNAME = "jobs"
HERE = Path(__file__).parent
ATTRIBUTES = (
    "vt",
    "delay",
    "maxsize",
    "totalrecv",
    "totalsent",
    "created",
    "modified",
    "msgs",
    "hiddenmsgs",
)


class Taken(NamedTuple):
    """A message as a peer received it."""

    id: str
    body: str
    rc: int
    fr: int
    """When it was received for the first time, in ms."""


class Peer(Protocol):
    """What all three can do. All verbs but `create` are about the queue `QNAME`."""

    SHORTEST: float
    """A short delay or vt, in seconds; Node takes whole ones only."""

    async def create(self, qname: str = QNAME, **attributes: float) -> None: ...
    async def delete_queue(self) -> None: ...
    async def queues(self) -> set[str]: ...
    async def attributes(self) -> dict[str, int]: ...
    async def set_attributes(self, **attributes: int) -> dict[str, int]: ...
    async def send(self, body: str, **delay: float) -> str: ...
    async def receive(self, **vt: float) -> Taken | None: ...
    async def pop(self) -> Taken | None: ...
    async def delete(self, id: str) -> bool: ...
    async def hide(self, id: str, vt: float) -> bool: ...


class Ours:
    """aiorsmq. `queue` has what the others lack."""

    SHORTEST = 0.3

    def __init__(self, client: AsyncRSMQ) -> None:
        self.client = client
        self.queue = client.queue(QNAME)

    async def create(self, qname: str = QNAME, **attributes: Any) -> None:
        await self.client.create_queue(qname=qname, **attributes)

    async def delete_queue(self) -> None:
        await self.queue.delete()

    async def queues(self) -> set[str]:
        return await self.client.list_queues()

    async def attributes(self) -> dict[str, int]:
        return _numbers(await self.queue.attributes())

    async def set_attributes(self, **attributes: Any) -> dict[str, int]:
        return _numbers(await self.queue.set_attributes(**attributes))

    async def send(self, body: str, **delay: float) -> str:
        return await self.queue.send(body, **delay)

    async def receive(self, **vt: float) -> Taken | None:
        return self._taken(await self.queue.receive(**vt))

    async def pop(self) -> Taken | None:
        return self._taken(await self.queue.pop())

    async def delete(self, id: str) -> bool:
        return await self.queue.delete_message(id)

    async def hide(self, id: str, vt: float) -> bool:
        return await self.queue.change_visibility(id, vt)

    def _taken(self, message: Message[str] | None) -> Taken | None:
        if message is None:
            return None
        assert message.first_received_at is not None
        fr = round(message.first_received_at.timestamp() * 1000)
        return Taken(message.id, message.body, message.receive_count, fr)


def _numbers(attributes: QueueAttributes) -> dict[str, int]:
    numbers = {name: getattr(attributes, name) for name in ATTRIBUTES}
    return numbers | {name: int(numbers[name].timestamp()) for name in ("created", "modified")}


def _node_and_program() -> tuple[str, str]:
    node = shutil.which("node")
    if node is None:
        pytest.fail("tests/interop needs Node.js, and there is no `node` on the PATH")
    if not (HERE / "node_modules" / "rsmq").is_dir():
        pytest.fail(
            "tests/interop needs Node's rsmq: run `npm ci` there, or `nox -s interop`, which does"
        )
    return node, str(HERE / "peer.js")


class NodeError(Exception):
    """An error of Node's rsmq, by its name."""


class Node:
    """Node's rsmq, in a process of its own. `call` has what the verbs lack."""

    SHORTEST = 1

    def __init__(self, process: Process) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read())
        self._announcements: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    @classmethod
    async def start(cls, port: int, **options: Any) -> "Node":
        """Options are those of rsmq's constructor: `realtime`, `ns`."""
        command = (*_node_and_program(), json.dumps({"port": port, **options}))
        return cls(
            await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=2**24)
        )

    async def aclose(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        with anyio.move_on_after(5):
            await self._process.wait()
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def call(self, method: str, **options: Any) -> Any:
        """Call a method of rsmq as it is, and return what it returned."""
        assert self._process.stdin is not None
        n = next(self._numbers)
        reply = self._replies[n] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(
            json.dumps({"n": n, "method": method, "options": options}).encode() + b"\n"
        )
        with anyio.fail_after(PATIENCE):
            result = await reply
        if "error" not in result:
            return result.get("result")
        known = {"queueNotFound": QueueDoesNotExist, "queueExists": QueueAlreadyExists}.get(
            result["error"]
        )
        raise known(options["qname"]) if known else NodeError(result["error"], result["message"])

    async def subscribe(self) -> None:
        """Listen to the announcements of the queue; `heard` returns them."""
        await self.call("subscribe", channel=f"rsmq:rt:{QNAME}")

    async def heard(self) -> str:
        """Wait for the next announcement and return its payload."""
        with anyio.fail_after(PATIENCE):
            channel, payload = await self._announcements.get()
        assert channel == f"rsmq:rt:{QNAME}"
        return payload

    async def create(self, qname: str = QNAME, **attributes: float) -> None:
        assert await self.call("createQueue", qname=qname, **attributes) == 1

    async def delete_queue(self) -> None:
        assert await self.call("deleteQueue", qname=QNAME) == 1

    async def queues(self) -> set[str]:
        return set(await self.call("listQueues"))

    async def attributes(self) -> dict[str, int]:
        return await self.call("getQueueAttributes", qname=QNAME)

    async def set_attributes(self, **attributes: int) -> dict[str, int]:
        return await self.call("setQueueAttributes", qname=QNAME, **attributes)

    async def send(self, body: str, **delay: float) -> str:
        return await self.call("sendMessage", qname=QNAME, message=body, **delay)

    async def receive(self, **vt: float) -> Taken | None:
        return self._taken(await self.call("receiveMessage", qname=QNAME, **vt))

    async def pop(self) -> Taken | None:
        return self._taken(await self.call("popMessage", qname=QNAME))

    async def delete(self, id: str) -> bool:
        return {0: False, 1: True}[await self.call("deleteMessage", qname=QNAME, id=id)]

    async def hide(self, id: str, vt: float) -> bool:
        return {0: False, 1: True}[
            await self.call("changeMessageVisibility", qname=QNAME, id=id, vt=vt)
        ]

    def _taken(self, reply: dict[str, Any]) -> Taken | None:
        return Taken(reply["id"], reply["message"], reply["rc"], reply["fr"]) if reply else None

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            if "n" not in said:
                self._announcements.put_nowait((said["channel"], said["payload"]))
            elif not (reply := self._replies.pop(said["n"])).done():  # the caller may have given up
                reply.set_result(said)
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(EOFError("the Node process has ended; see its stderr"))


class PyRSMQ:
    """PyRSMQ, in a thread for each call. `call` has what the verbs lack."""

    SHORTEST = 0.3

    def __init__(self, port: int, **options: Any) -> None:
        self._rsmq = rsmq.RedisSMQ(port=port, **options)
        self._client = self._rsmq.client  # made here, else each of its threads might make one

    async def aclose(self) -> None:
        self._client.close()

    async def call(self, method: str, **params: Any) -> Any:
        """Run a command of PyRSMQ as it is, and return what it returned."""
        command = getattr(self._rsmq, method)()
        for name, value in params.items():
            getattr(command, name)(
                value
            )  # raises what PyRSMQ does not take; as a keyword it would be ignored
        try:
            return await anyio.to_thread.run_sync(command.execute)
        except rsmq.cmd.exceptions.QueueAlreadyExists:
            raise QueueAlreadyExists(params["qname"]) from None
        except rsmq.cmd.exceptions.QueueDoesNotExist:
            raise QueueDoesNotExist(params["qname"]) from None

    async def create(self, qname: str = QNAME, **attributes: float) -> None:
        assert await self.call("createQueue", qname=qname, **attributes)

    async def delete_queue(self) -> None:
        assert await self.call("deleteQueue", qname=QNAME)

    async def queues(self) -> set[str]:
        return set(await self.call("listQueues"))

    async def attributes(self) -> dict[str, int]:
        return await self.call("getQueueAttributes", qname=QNAME)

    async def set_attributes(self, **attributes: int) -> dict[str, int]:
        return await self.call("setQueueAttributes", qname=QNAME, **attributes)

    async def send(self, body: str, **delay: float) -> str:
        return await self.call("sendMessage", qname=QNAME, message=body, **delay)

    async def receive(self, **vt: float) -> Taken | None:
        return await self._take("receiveMessage", qname=QNAME, **vt)

    async def pop(self) -> Taken | None:
        return await self._take("popMessage", qname=QNAME)

    async def delete(self, id: str) -> bool:
        return await self.call("deleteMessage", qname=QNAME, id=id)

    async def hide(self, id: str, vt: float) -> bool:
        with suppress(rsmq.cmd.exceptions.NoMessageInQueue):
            return await self.call("changeMessageVisibility", qname=QNAME, id=id, vt=vt)
        return False

    async def _take(self, method: str, **params: Any) -> Taken | None:
        with suppress(rsmq.cmd.exceptions.NoMessageInQueue):
            reply = await self.call(method, **params)
            return Taken(reply["id"], reply["message"], reply["rc"], reply["ts"])
        return None
