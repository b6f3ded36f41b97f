"""A server of one's own: there with the first call, gone with the client or its program."""

import asyncio
import signal
import sys
from pathlib import Path

import aiorsmq.embedded
import psutil
import pytest
from aiorsmq import AsyncRSMQ, EmbeddedServer, EmbeddedServerError, ExtraNotInstalled

from support import wait_until


def servers(folder):
    """The server processes that have their socket in the folder."""
    return [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == "valkey-server" and str(folder) in " ".join(process.info["cmdline"] or [])
    ]


async def test_with_the_client():
    """embedded:// starts a server with the first call and stops it with `aclose()`, leaving no file."""
    rsmq = AsyncRSMQ.from_url("embedded://")
    folder = Path(rsmq._server.socket).parent
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
        with pytest.raises(EmbeddedServerError, match="another embedded server"):
            await EmbeddedServer(tmp_path).start()
    async with EmbeddedServer(tmp_path):
        pass


async def test_shared_by_its_url():
    """Other programs, and clients, may be given its url; starting it twice starts it once."""
    async with EmbeddedServer() as server, AsyncRSMQ.from_url(server.url) as a, AsyncRSMQ.from_url(server.url) as b:
        await server.start()
        await a.create_queue(qname="q")
        assert await b.list_queues() == {"q"}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_gone_with_its_program(how):
    """The server is gone when its program is, however that ended."""
    program = (
        "import asyncio, aiorsmq\n"
        "async def main():\n"
        "    rsmq = aiorsmq.AsyncRSMQ.from_url('embedded://')\n"
        "    await rsmq.create_queue(qname='q')\n"
        "    print(rsmq._server.socket, flush=True)\n"
        "    await asyncio.sleep(100)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    folder = Path((await process.stdout.readline()).decode().strip()).parent
    (server,) = servers(folder)
    process.send_signal(how)
    await process.wait()
    await wait_until(lambda: not server.is_running() and not folder.exists())


async def test_does_not_start(tmp_path):
    """A server that does not start is an error that ends with its log, and leaves nothing behind."""
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    server = EmbeddedServer(tmp_path)
    with pytest.raises(EmbeddedServerError, match="AOF"):
        await server.start()
    assert not Path(server.socket).parent.exists()


def test_not_installed(monkeypatch):
    """Without the extra, the error names it."""
    monkeypatch.setattr(aiorsmq.embedded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExtraNotInstalled, match=r"aiorsmq-realtime\[embedded\]") as caught:
        AsyncRSMQ.from_url("embedded://")
    assert caught.value.extra == "embedded"
