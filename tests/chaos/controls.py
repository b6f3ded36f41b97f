"""Break the library in one place at a time, and see that a test goes red: `python
tests/chaos/controls.py [NAME...]`.

Each breakage is made in a copy of the package, which a fresh pytest finds before the real one. Ends
with a table, and with 1 if a breakage was not noticed, or if a test fails without any.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from breakages import BREAKAGES, Breakage, DoesNotFit, broken_files

TESTS = Path(__file__).parent.parent
PACKAGE = TESTS.parent / "aiorsmq"
PATIENCE = 90.0
"""Seconds after which a test that hangs counts as red: a broken library never answers."""


def main(names: list[str]) -> str | None:
    if unknown := set(names) - BREAKAGES.keys():
        return f"no such breakages: {sorted(unknown)}"
    chosen = {name: BREAKAGES[name] for name in names or BREAKAGES}
    if misfits := [*filter(None, (misfit(name) for name in chosen))]:
        return "\n".join(misfits)
    tests = list(dict.fromkeys(test for breakage in chosen.values() for test in breakage.caught_by))
    trouble = [
        f"{test} fails without a breakage: {how}"
        for test in tests
        for failed, how in [run(test, None)]
        if failed
    ]
    print(
        f"\n{len(tests) - len(trouble)} of {len(tests)} tests pass without a breakage; with it "
        "each must go red"
    )
    print("breakage | caught by | how it failed, after how long", flush=True)
    for name, breakage in chosen.items():
        with tempfile.TemporaryDirectory(prefix="aiorsmq-broken-") as folder:
            break_into(Path(folder), name, breakage)
            for test in breakage.caught_by:
                failed, how = run(test, folder)
                print(f"{name} | {test} | {how}", flush=True)
                if not failed:
                    trouble.append(f"not noticed by {test}: {name} ({breakage.what})")
    return "\n".join(trouble) or None


def misfit(name: str) -> str | None:
    """Why a breakage cannot be made, if it cannot."""
    try:
        broken_files(PACKAGE, name, BREAKAGES[name])
    except DoesNotFit as error:
        return str(error)
    return None


def break_into(folder: Path, name: str, breakage: Breakage) -> None:
    package = folder / "aiorsmq"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in broken_files(package, name, breakage).items():
        path.write_text(text)


def run(test: str, folder: str | None) -> tuple[bool, str]:
    """Run one test, on a broken copy if there is one: whether it failed, and how. Ends the program
    if it cannot run.
    """
    started = time.monotonic()
    # -P: else the folder that we are in would be looked at before the copy
    command = (sys.executable, "-P", "-m", "pytest", "-q", "-x", "-k", "not uvloop", *test.split())
    environment = {"AIORSMQ_CHAOS_SEED": "1"} | os.environ | {"COLUMNS": "200"}
    environment |= {
        "PYTHONPATH": folder or str(PACKAGE.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AIORSMQ_CHAOS_SHRINK": "no",
    }
    with subprocess.Popen(
        command,
        cwd=TESTS,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as running:
        try:
            said, _ = running.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)  # with the servers that it has started
            return True, f"hangs for {PATIENCE:.0f} s"
    if running.returncode not in (0, 1):
        sys.exit(f"{test} cannot be run:\n{said}")
    how = "passes" if running.returncode == 0 else reason(test, said)
    return running.returncode == 1, f"{how}, {time.monotonic() - started:.0f} s"


def reason(test: str, said: str) -> str:
    """Pytest's line about the failure, and a chaos test's own figures."""
    name = re.escape(test.partition(" ")[0].rpartition("test_")[2])
    patterns = (r"^(?:FAILED|ERROR) \S+ - (.*)$", rf"^{name}: (.*) \|")
    found = [re.search(pattern, said, re.MULTILINE) for pattern in patterns]
    return ", ".join(match[1][:90] for match in found if match) or "red"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
