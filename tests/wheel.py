"""Run against an installed wheel, with the name of the one extra that is installed, or "": all of
the package is in it and nothing else, nothing but its two dependencies is needed, and what the
extra brings works, while the others say what to install.
"""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import files, metadata, requires, version
from importlib.resources import files as resources
from importlib.util import find_spec
from pathlib import Path

import aiorsmq
from aiorsmq import AsyncRSMQ, ExtraNotInstalled, MsgspecCodec, PydanticCodec

NAME = "aiorsmq-realtime"
EXTRA = sys.argv[1]
SERVERS = {"embedded", "testing"}
"""The extras that bring a server."""


def check_contents() -> None:
    package = resources("aiorsmq")
    assert "site-packages" in str(package), package
    scripts = {path.name for path in Path(__file__).parents[1].glob("aiorsmq/_lua/*.lua")}
    assert {script.name for script in (package / "_lua").iterdir()} >= scripts > set()
    for path in files(NAME) or []:
        own = path.suffix in {".py", ".lua", ".pyc"} or path.name == "py.typed"
        is_about = path.parts[0].endswith(".dist-info") or path.name == "aiorsmq"  # the command
        assert own or is_about, f"{path}: what others made needs an SBOM"


def check_metadata() -> None:
    assert aiorsmq.__version__ == version(NAME) != "0+unknown"
    needed = sorted(name for name in requires(NAME) or [] if "extra" not in name)
    assert [name.split(">")[0] for name in needed] == ["anyio", "redis[hiredis]"], needed
    urls = dict(url.split(", ") for url in metadata(NAME).get_all("Project-URL") or [])
    assert {"Documentation", "Changelog", "Source", "Issues"} <= urls.keys()


def is_available(extra: str, use) -> bool:
    """Whether something that needs an extra works; if not, its error names that extra."""
    try:
        use()
    except ExtraNotInstalled as error:
        named = error.extra
    else:
        return True
    assert named == extra
    return False


async def send_and_receive() -> None:
    async with AsyncRSMQ.from_url("embedded://") as rsmq:
        queue = rsmq.queue("jobs")
        await queue.ensure()
        await queue.send("hello")
        message = await queue.receive()
        assert message
        assert message.body == "hello"


SCRIPT = [str(Path(sys.executable).with_name("aiorsmq"))]
MODULE = [sys.executable, "-I", "-m", "aiorsmq"]


def run(*arguments: str, expect: int = 0, programs: Sequence[list[str]] = (SCRIPT, MODULE)) -> str:
    """What a command prints, as the script and as the module, which must be the same."""
    printed = set()
    for program in programs:
        done = subprocess.run([*program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == expect, done
        printed.add(done.stdout + done.stderr)
    (text,) = printed
    assert "Traceback" not in text, text
    return text


def check_command_line() -> None:
    assert run("--version") == f"aiorsmq {aiorsmq.__version__}\n"
    if EXTRA == "cli":
        commands = re.findall(r"^│ ([a-z]+) ", run(), re.MULTILINE)
        assert {"ls", "info", "bench", "demo"} <= set(commands), commands
        for command in commands:
            text = run(command, "--help", programs=[SCRIPT])
            assert re.match(rf"Usage: aiorsmq {command}\b", text), command
        assert "127.0.0.1:1" in run("ls", "--url", "redis://127.0.0.1:1", expect=3)
        return
    assert f'pip install "{NAME}[cli]"' in run()
    for arguments in (["ls"], ["info", "jobs", "--json"]):
        assert run(*arguments, expect=2) == (
            f'aiorsmq {arguments[0]} requires an optional package: pip install "{NAME}[cli]"\n'
        )
    assert f"{NAME}[embedded]" in run("demo", expect=1)


def check_pytest_plugin() -> None:
    with tempfile.TemporaryDirectory() as folder:
        test = Path(folder) / "test_jobs.py"
        test.write_text(
            "import pytest\n\n\n@pytest.mark.anyio\n"
            "async def test_send(rsmq_queue):\n    assert await rsmq_queue.send('hello')\n"
        )
        command = [sys.executable, "-I", "-m", "pytest", "-q", "-W", "error", str(test)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


os.environ["PATH"] = ""  # a server there would do for `embedded://`
check_contents()
check_metadata()
available = {
    "msgspec": is_available("msgspec", lambda: MsgspecCodec(list[int]).decode(b"[1]")),
    "pydantic": is_available("pydantic", lambda: PydanticCodec(list[int]).decode(b"[1]")),
    "embedded": is_available("embedded", lambda: AsyncRSMQ.from_url("embedded://")),
    "cli": find_spec("cyclopts") is not None,
    "reload": find_spec("watchfiles") is not None,
    "testing": find_spec("pytest") is not None,
}
expected = {EXTRA, "embedded"} if EXTRA == "testing" else {EXTRA} - {""}
assert {extra for extra in available if available[extra]} == expected, available
AsyncRSMQ()
if EXTRA in ("", "cli"):
    check_command_line()
if EXTRA in SERVERS:
    asyncio.run(send_and_receive())
if EXTRA == "testing":
    check_pytest_plugin()
print(f"{NAME} {version(NAME)} with {f'the extra {EXTRA}' if EXTRA else 'no extra'}: works")
