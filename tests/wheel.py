"""Run against an installed wheel: everything is in it, nothing but its two dependencies is needed,
and the command line works: with `cli` as the argument all of it, which the extra has brought.
"""

import os
import re
import subprocess
import sys
from importlib.metadata import requires, version
from importlib.resources import files
from pathlib import Path

import aiorsmq

package = files("aiorsmq")
assert "site-packages" in str(package), package
assert (package / "py.typed").is_file()
scripts = {path.name for path in Path(__file__).parents[1].glob("aiorsmq/_lua/*.lua")}
assert {script.name for script in (package / "_lua").iterdir()} >= scripts > set()
assert aiorsmq.__version__ == version("aiorsmq-realtime") != "0+unknown"
needed = sorted(name for name in requires("aiorsmq-realtime") or [] if "extra" not in name)
assert [name.split(">")[0] for name in needed] == ["anyio", "redis[hiredis]"], needed
aiorsmq.AsyncRSMQ()
os.environ["PATH"] = ""  # a server there would do for `embedded://`
for of_an_extra in (
    lambda: aiorsmq.AsyncRSMQ.from_url("embedded://"),
    lambda: aiorsmq.MsgspecCodec(int),
    lambda: aiorsmq.PydanticCodec(int),
):
    try:
        of_an_extra()
    except aiorsmq.ExtraNotInstalled as error:
        print(f"aiorsmq-realtime {version('aiorsmq-realtime')}: {error}")
    else:
        raise AssertionError("what needs an extra works without it")


def run(*arguments: str, expect: int = 0) -> str:
    """What a command prints, as the script and as the module, which must be the same."""
    script = Path(sys.executable).with_name("aiorsmq")
    printed = set()
    for program in ([str(script)], [sys.executable, "-I", "-m", "aiorsmq"]):
        done = subprocess.run([*program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == expect, done
        printed.add(done.stdout + done.stderr)
    (text,) = printed
    assert "Traceback" not in text, text
    return text


assert run("--version") == f"aiorsmq {aiorsmq.__version__}\n"
assert "aiorsmq-realtime[embedded]" in run("demo", expect=1)  # it is there, and names what it needs
if sys.argv[1:] == ["cli"]:
    commands = re.findall(r"^│ ([a-z]+) ", run("--help"), re.MULTILINE)
    assert {"ls", "info", "bench", "demo"} <= set(commands), commands
    for command in commands:
        assert re.match(rf"Usage: aiorsmq {command}\b", run(command, "--help")), command
    assert "127.0.0.1:1" in run("ls", "--url", "redis://127.0.0.1:1", expect=3)
    print(f"{len(commands)} commands")
else:
    for arguments in (["ls"], ["info", "jobs", "--json"]):
        text = run(*arguments, expect=2)
        assert text == (
            f"aiorsmq {arguments[0]} requires an optional package: "
            'pip install "aiorsmq-realtime[cli]"\n'
        ), text
    print(text, end="")
