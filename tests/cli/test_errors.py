"""What goes wrong is told in one line, with an exit code for programs."""

import asyncio
import os
import sys


async def test_unreachable(cli):
    """A server that cannot be reached: its address, no password, and exit code 3."""
    for url in ("redis://:s3cret@127.0.0.1:1/0", "unix://user:s3cret@/nowhere.sock"):
        result = await cli("ls", "--url", url, expect=3)
        assert result.out == ""
        assert len(result.err.splitlines()) == 1
        assert ("127.0.0.1:1" in result.err) or ("/nowhere.sock" in result.err)
        assert "s3cret" not in result.err


async def test_wrong_value(cli):
    """A value out of range is named with its range: exit code 2."""
    result = await cli("create", "jobs", "--vt", "99999999", expect=2)
    assert result.err == "aiorsmq: vt=99999999.0: must be from 0 to 9999999 seconds\n"


async def test_wrong_usage(cli):
    """Words that a command does not take are told in one line without the password of a URL."""
    url = "redis://ann:s3cret@127.0.0.1/0?password=s3cret"
    for words, text in (
        (["ls", url], "redis://...@127.0.0.1"),
        ([f"--url={url}", "ls"], "--url=redis://...@127.0.0.1"),
        ([url], "redis://...@127.0.0.1"),
        (["ls", "--deadline", url], "--deadline"),
        (["check", url, "--depth-warn", url], "--depth-warn"),
        (["peek", "jobs", "--limit", "x"], '"x" into int'),
    ):
        code = 3 if words[0] == "check" else 2
        result = await cli(*words, expect=code)
        assert text in result.err
        assert result.err.startswith("aiorsmq: ")
        assert result.err.count("\n") == 1
        assert "s3cret" not in result.err + result.out


async def test_interrupted_start(start, finish_cli, tmp_path):
    """Ctrl-C while the program starts is as clean as later."""
    (tmp_path / "rich.py").write_text("raise KeyboardInterrupt\n")
    environment = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    process = await start("ls", env=environment)
    assert (await finish_cli(process, expect=130)).err == "\nInterrupted.\n"


async def test_missing_queue(cli):
    """A queue that does not exist: exit code 1."""
    result = await cli("info", "nothing", expect=1)
    assert "nothing" in result.err


async def test_refused(cli, server):
    """What the server refuses is told in one line: exit code 1."""
    server.redis.set("rsmq:jobs:Q", "text")
    result = await cli("info", "jobs", expect=1)
    assert "WRONGTYPE" in result.err
    server.redis.delete("rsmq:jobs:Q")


async def test_order_of_settings(cli, server):
    """A flag is stronger than AIORSMQ_URL, and that than REDIS_URL."""
    nowhere = "redis://127.0.0.1:1"
    await cli("create", "jobs", env={"REDIS_URL": nowhere})
    await cli("ls", "--url", server.url, env={"AIORSMQ_URL": nowhere})
    await cli("ls", env={"AIORSMQ_URL": nowhere, "REDIS_URL": server.url}, expect=3)


async def test_full_disk(start, finish_cli, cli, queue, tmp_path):
    """A file that cannot be read or written is named for what it is: the server is well."""
    await queue.send("body")
    full = os.open("/dev/full", os.O_WRONLY)
    for command in ("ls", "ls --json", "receive jobs --vt 0", "export jobs", "check"):
        result = await finish_cli(await start(*command.split(), stdout=full), expect=1)
        assert result.err.splitlines()[-1] == "aiorsmq: No space left on device", command
    os.close(full)
    result = await cli("import", "jobs", "--file", "/proc/self/mem", expect=1)
    assert result.err == "aiorsmq: Input/output error\n"


async def test_closed_streams(start, finish_cli, queue, server):
    """Closed standard streams are empty ones; the exit code is the same."""

    async def run(command, closed, expect):
        shell = ("sh", "-c", f'exec "$0" -m aiorsmq {command} {closed}', sys.executable)
        environment = os.environ | {"AIORSMQ_URL": server.url}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*shell, env=environment, stderr=pipe)
        return (await finish_cli(process, expect=expect)).err

    for command in ("ls", "check jobs", "info jobs", "top --once --every 0.2", "export jobs"):
        assert "rror" not in await run(command, ">&-", 0)
    assert "nothing" in await run("info nothing", ">&-", 1)
    for command in ("rm jobs", "purge jobs"):
        assert await run(command, "<&-", 2) == await run(command, "</dev/null", 2)
    await run("check --dead-warn 0", "<&- >&- 2>&-", 0)
    assert (await queue.attributes()).msgs == 0


async def test_refused_login(cli, server):
    """A server that refuses the login has been reached: exit code 1, and no password."""
    url = server.url.replace("unix://", "unix://nobody:s3cret@")
    result = await cli("ls", "--url", url, expect=1)
    assert "refuses the login" in result.err
    assert "s3cret" not in result.err
