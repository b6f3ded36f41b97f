"""Processes that each have an embedded server of their own, and what the log tells them."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import textwrap
from asyncio.subprocess import PIPE
from pathlib import Path

import anyio
import psutil
import pytest
from aiorsmq import AsyncRSMQ

from support import PATIENCE, wait_until

LOGGER = "aiorsmq.startup.embedded"

PROGRAM = """
import asyncio, logging, multiprocessing, os, subprocess, sys
from aiorsmq import *

logging.basicConfig(level=logging.INFO, format="%(process)d %(levelname)s %(name)s %(message)s")

async def serve(url="embedded://", when_up=sys.stdin.read):
    async with AsyncRSMQ.from_url(url) as rsmq:
        await rsmq.list_queues()
        print(os.getpid(), flush=True)
        await asyncio.to_thread(when_up)
"""

SERVE = "asyncio.run(serve())"


class Program:
    """A program that runs until its input ends."""

    def __init__(self, process):
        self.process = process
        self.pid = process.pid

    async def wait_until_up(self):
        with anyio.fail_after(PATIENCE):
            assert await self.process.stdout.readline() == b"%d\n" % self.pid

    async def end(self):
        """End it, and return what its processes logged at WARNING: process ids and messages."""
        with anyio.fail_after(2 * PATIENCE):  # it may start more before it ends
            _, errors = await self.process.communicate(b"")
        assert self.process.returncode == 0, errors.decode()
        lines = [line.split(" ", 3) for line in errors.decode().splitlines()]
        assert {name for _, _, name, _ in lines} <= {LOGGER}, errors.decode()
        return [(int(pid), message) for pid, level, _, message in lines if level == "WARNING"]


@pytest.fixture
def anyio_backend():
    """One will do: the programs have event loops of their own."""
    return "asyncio"


@pytest.fixture
def temporary(monkeypatch, tmp_path):
    """The folder for temporary files, of one test alone, and no trace of pytest.

    Comes after `tmp_path`, which would be below it.
    """
    folder = tempfile.mkdtemp(prefix="aiorsmq-own-", dir="/tmp")
    monkeypatch.setattr(tempfile, "tempdir", folder)
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.delenv("PYTEST_VERSION")
    yield Path(folder)
    shutil.rmtree(folder)


@pytest.fixture
async def launch(temporary, tmp_path):
    """`await launch()` starts a program and waits until its embedded server is up."""
    processes = []

    async def launch(main=SERVE, *, cwd=tmp_path, new_session=False):
        file = temporary / f"program{len(processes)}.py"
        file.write_text(PROGRAM + textwrap.dedent(main))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "ignore", file),
            cwd=cwd,
            start_new_session=new_session,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )
        processes.append(process)
        program = Program(process)
        await program.wait_until_up()
        return program

    yield launch
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    await wait_until(lambda: not [*temporary.glob("aiorsmq-*")])


@pytest.fixture
def elsewhere(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


async def test_private(caplog, tmp_path):
    """The log says, once per client, that its server is private; not so with a folder, nor for a
    server that is shared by its url.
    """
    with caplog.at_level("INFO", LOGGER):
        async with AsyncRSMQ.from_url("embedded://") as rsmq:
            await rsmq.create_queue(qname="q")
            assert await rsmq.receive_message(qname="q", wait=0.01) is None  # a second connection
            url = rsmq._engine.target.server.url
            async with (
                AsyncRSMQ.from_url(url) as sharer,
                AsyncRSMQ.from_url(f"embedded://{tmp_path}") as keeper,
            ):
                assert await sharer.list_queues() == {"q"}
                assert await keeper.list_queues() == set()
    (record,) = (record for record in caplog.records if record.name == LOGGER)
    assert record.levelname == "INFO"
    assert record.message.startswith(f"the embedded server at {url} is private to this client")


async def test_second_client(launch):
    """The second client of a process is warned that it has a server of its own, and a third, of
    `aiorsmq.sync`, is not told again.
    """
    program = await launch(
        """
        def serve_in_thread():
            from aiorsmq import sync
            with sync.RSMQ.from_url("embedded://") as rsmq:
                rsmq.list_queues()
                sys.stdin.read()
        asyncio.run(serve(when_up=lambda: asyncio.run(serve(when_up=serve_in_thread))))
        """
    )
    ((pid, message),) = await program.end()
    assert pid == program.pid
    assert message.startswith(f"two clients of this process ({pid})")
    assert "EmbeddedServer" in message
    assert "redis://" in message


async def test_second_client_in_a_thread(launch):
    """A client of `aiorsmq.sync` is warned of an asynchronous one."""
    program = await launch(
        """
        def serve_in_thread():
            from aiorsmq import sync
            with sync.RSMQ.from_url("embedded://") as rsmq:
                rsmq.list_queues()
        asyncio.run(serve(when_up=serve_in_thread))
        """
    )
    ((_, message),) = await program.end()
    assert message.startswith("two clients of this process")


async def test_one_client_after_another(launch):
    """A client that is closed before the next one starts is no reason to warn."""
    program = await launch("for _ in range(2): asyncio.run(serve())")
    assert await program.end() == []


@pytest.mark.parametrize("apart", ["folder", "session"])
async def test_sibling(launch, elsewhere, apart):
    """The second process of a program is warned, the first is not: of those in one process group,
    as a web server's workers, and of those in one folder, as started by honcho or from two
    terminals.
    """
    first = await launch()
    second = await (launch(cwd=elsewhere) if apart == "folder" else launch(new_session=True))
    ((pid, message),) = await second.end()
    assert (pid, await first.end()) == (second.pid, [])
    assert message.startswith(f"process {first.pid} and this one ({second.pid}) have")
    assert "redis://" in message


async def test_unrelated(launch, elsewhere):
    """A program that was started elsewhere and in another session is no sibling."""
    first = await launch()
    second = await launch(cwd=elsewhere, new_session=True)
    assert await second.end() == await first.end() == []


async def test_folder_of_services(launch):
    """Programs in the root folder, as services, are no siblings for that."""
    first = await launch(cwd="/", new_session=True)
    second = await launch(cwd="/", new_session=True)
    assert await second.end() == await first.end() == []


START = """
def start():
    return subprocess.Popen(
        [sys.executable, __file__, "child"],
        cwd="elsewhere",
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

async def start_first():
    print(os.getpid(), flush=True)
    with start() as child:
        child.stdout.readline()
        await serve()
        child.communicate()

async def start_later():
    await serve(when_up=lambda: start().communicate())

asyncio.run(serve() if sys.argv[1:] else %s())
"""


@pytest.mark.parametrize("how", ["start_first", "start_later"])
async def test_child(launch, elsewhere, how):
    """A process that a program starts is its sibling, in whatever folder and session. The one whose
    server is younger is warned.
    """
    program = await launch(START % how)
    ((pid, message),) = await program.end()
    assert (pid == program.pid) == (how == "start_first")
    assert f"this one ({pid})" in message


FORK = """
def fork():
    if not (child := os.fork()):
        for _ in range(2):
            asyncio.run(serve())
        os._exit(0)
    os.waitpid(child, 0)
asyncio.run(serve(when_up=fork))
"""


async def test_forked(launch):
    """A forked child with a client of its own is warned of its parent, once for all its clients."""
    parent = await launch(FORK)
    ((pid, message),) = await parent.end()
    assert pid != parent.pid
    assert message.startswith(f"process {parent.pid} and this one ({pid})")


async def test_forked_by_a_sibling(launch):
    """A forked child is warned also if its parent was."""
    first = await launch()
    parent = await launch(FORK)
    assert len({pid for pid, _ in await parent.end()}) == 2
    assert await first.end() == []


async def test_started_at_once(launch):
    """Of two workers that start at once, at least one is warned."""
    program = await launch(
        """
        def work(barrier):
            barrier.wait()
            asyncio.run(serve(when_up=barrier.wait))

        if __name__ == "__main__":
            print(os.getpid(), flush=True)
            context = multiprocessing.get_context("spawn")
            barrier = context.Barrier(2, timeout=20)
            workers = [context.Process(target=work, args=[barrier]) for _ in range(2)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
                assert worker.exitcode == 0
        """
    )
    pids = set()
    for pid, message in await program.end():
        assert f"this one ({pid})" in message
        assert f"process {pid} " not in message
        pids.add(pid)
    assert len(pids) in (1, 2)


async def test_shared_server(launch):
    """An EmbeddedServer is there to be shared: its program neither warns nor is warned of, and is
    not in the way of finding a sibling.
    """
    sharer = await launch(
        """
        async def share():
            async with EmbeddedServer() as server, EmbeddedServer(), EmbeddedServer():
                await serve(server.url)
        asyncio.run(share())
        """
    )
    first = await launch()
    second = await launch()
    ((_, message),) = await second.end()
    assert message.startswith(f"process {first.pid} ")
    assert await sharer.end() == await first.end() == []


async def test_tests(launch, monkeypatch):
    """Programs that run under pytest neither warn nor are warned of."""
    program = await launch()
    monkeypatch.setenv("PYTEST_VERSION", pytest.__version__)
    one, two = await launch(), await launch()
    assert await two.end() == await one.end() == []
    assert await program.end() == []


@pytest.mark.parametrize("pid", ["its own", "reused"])
async def test_dead(launch, temporary, pid):
    """An owner that is dead is no sibling, though its file is left and its id is another's now."""
    first = await launch()
    (folder,) = temporary.glob("aiorsmq-*")
    guard = psutil.Process(first.pid).children()[0].pid
    os.killpg(guard, signal.SIGKILL)
    first.process.kill()
    await first.process.wait()
    owner = folder / "owner"
    assert owner.read_text().startswith(f"{first.pid} ")
    if pid == "reused":
        owner.write_text(owner.read_text().replace(str(first.pid), str(os.getpid())))
    second = await launch()
    assert await second.end() == []
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "content", [None, b"", b"\xff \xff \xff \xff", b"%s 1 1 /" % (b"9" * 5000)]
)
async def test_file_unreadable(launch, temporary, content):
    """A file about an owner that cannot be read, as while it is being written, is passed over."""
    first = await launch()
    (owner,) = temporary.glob("aiorsmq-*/owner")
    if content is None:
        owner.unlink()
        owner.mkdir()
    else:
        owner.write_bytes(content)
    second = await launch()
    assert await second.end() == await first.end() == []


async def test_no_folder(launch, tmp_path):
    """A program whose working directory is gone has its server all the same."""
    (tmp_path / "gone").mkdir()
    first = await launch()
    second = await launch("os.rmdir('../gone')\n" + SERVE, cwd=tmp_path / "gone")
    assert await second.end() == await first.end() == []


async def test_file_is_private(temporary):
    """Only this user may read the file about the owner."""
    before = os.umask(0)
    try:
        async with AsyncRSMQ.from_url("embedded://") as rsmq:
            await rsmq.list_queues()
            (folder,) = temporary.glob("aiorsmq-*")
            modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
            assert modes["owner"] == 0o600
            assert not any(mode & 0o077 for mode in modes.values())
    finally:
        os.umask(before)
