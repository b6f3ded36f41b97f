"""Who is measured: each contender's program, and an environment of its own for it, made on first
use.
"""

import json
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / ".nox" / "contenders"


class Contender(NamedTuple):
    program: str
    """Its file in `contenders`."""
    requires: tuple[str, ...] = ()
    """What its environment has, the contender itself first. Without any, it is run where this
    library is installed.
    """
    uvloop: bool = False


STREAMS = ("redis==8.1.0", "hiredis==3.5.0")
CONTENDERS = {
    "aiorsmq": Contender("aiorsmq_.py"),
    "aiorsmq uvloop": Contender("aiorsmq_.py", uvloop=True),
    "aiorsmq replicas": Contender("aiorsmq_.py"),
    "aiorsmq fsync": Contender("aiorsmq_.py"),
    "aiorsmq.sync": Contender("aiorsmq_sync.py"),
    "aiorsmq.sync uvloop": Contender("aiorsmq_sync.py", uvloop=True),
    "Node rsmq": Contender("node_rsmq.js", ("rsmq",)),
    "PyRSMQ": Contender("pyrsmq_.py", ("PyRSMQ==0.6.1", "redis==8.1.0", "hiredis==3.5.0")),
    "streams": Contender("streams.py", STREAMS),
    "streams batched": Contender("streams.py", STREAMS),
    "BullMQ": Contender("bullmq_.js", ("bullmq",)),
    "SAQ": Contender(
        "saq_.py",
        # it imports typing_extensions without asking for it
        ("saq==0.26.4", "redis==7.4.1", "hiredis==3.5.0", "typing_extensions==4.16.0"),
    ),
    "arq": Contender("arq_.py", ("arq==0.28.0", "redis==5.3.1", "hiredis==3.5.0")),
    "taskiq": Contender(
        "taskiq_.py", ("taskiq==0.13.0", "taskiq-redis==1.2.4", "redis==8.1.0", "hiredis==3.5.0")
    ),
    "rsmq-worker": Contender("rsmq_worker.js", ("rsmq-worker",)),
    "ceiling": Contender("ceiling.py"),
}


def command(name: str) -> list[str]:
    """The command that starts a contender."""
    contender = CONTENDERS[name]
    program = HERE / "contenders" / contender.program
    if program.suffix == ".js":
        return ["node", str(program)]
    return [
        str(_environment(contender.requires)) if contender.requires else sys.executable,
        str(program),
    ]


def versions() -> dict[str, str]:
    """The version of each contender, by its name."""
    node = json.loads((HERE / "package.json").read_text())["dependencies"]
    found: dict[str, str] = {}
    for name, contender in CONTENDERS.items():
        what, _, pinned = (contender.requires or ("aiorsmq-realtime",))[0].partition("==")
        found[name] = pinned or node.get(what) or version(what)
    return found


def _environment(requires: tuple[str, ...]) -> Path:
    """The interpreter of an environment that has these requirements and what they need."""
    folder = FOLDER / requires[0]
    made, python = folder / "requirements.txt", folder / "bin" / "python"
    if not made.exists() or made.read_text().splitlines() != list(requires):
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *requires], check=True)
        made.write_text("\n".join(requires))
    return python
