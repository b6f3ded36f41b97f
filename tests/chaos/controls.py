"""Break the library in one place at a time, and see that a test goes red: `python tests/chaos/controls.py [NAME...]`.

Each breakage is made in a copy of the package, which a fresh pytest finds before the real one. Ends with a table, and
with 1 if a breakage was not noticed, or if a test fails without any.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from breakages import BREAKAGES, Breakage

TESTS = Path(__file__).parent.parent
PACKAGE = TESTS.parent / "aiorsmq"
PATIENCE = 60.0
"""Seconds after which a test that hangs counts as red: broken libraries wait for ever."""


def main(names: list[str]) -> str | None:
    if unknown := set(names) - BREAKAGES.keys():
        return f"no such breakages: {sorted(unknown)}"
    chosen = {name: BREAKAGES[name] for name in names or BREAKAGES}
    tests = list(dict.fromkeys(test for breakage in chosen.values() for test in breakage.caught_by))
    trouble = [f"fails without a breakage: {test}" for test in tests if run(test, None).failed]
    print(f"\nbreakage | caught by | how it failed, after how long ({len(tests)} tests pass without)")
    for name, breakage in chosen.items():
        with tempfile.TemporaryDirectory(prefix="aiorsmq-broken-") as folder:
            break_into(Path(folder), name, breakage)
            for test in breakage.caught_by:
                outcome = run(test, folder)
                print(f"{name} | {test} | {outcome.how}, {outcome.seconds:.0f} s", flush=True)
                if not outcome.failed:
                    trouble.append(f"not noticed by {test}: {name} ({breakage.what})")
    return "\n".join(trouble) or None


def break_into(folder: Path, name: str, breakage: Breakage) -> None:
    shutil.copytree(PACKAGE, folder / "aiorsmq", ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in breakage.changes:
        path = folder / "aiorsmq" / file
        text = path.read_text()
        if text.count(old) != 1:
            sys.exit(f"{name}: {file} has {text.count(old)} times, not once:\n{old}")
        path.write_text(text.replace(old, new))


class Outcome:
    def __init__(self, failed: bool, how: str, seconds: float) -> None:
        self.failed, self.how, self.seconds = failed, how, seconds


def run(test: str, folder: str | None) -> Outcome:
    """Run one test, on a broken copy if there is one; a run that could not begin ends the program."""
    started = time.monotonic()
    # -P: else the folder that we are in would be looked at before the copy
    command = (sys.executable, "-P", "-m", "pytest", "-q", "-x", "-k", "not uvloop", str(TESTS / test))
    environment = os.environ | {
        "PYTHONPATH": folder or str(PACKAGE.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AIORSMQ_CHAOS_SHRINK": "no",
    }
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return Outcome(True, "hangs", PATIENCE)
    if done.returncode not in (0, 1):
        sys.exit(f"{test} cannot be run:\n{done.stdout}{done.stderr}")
    seconds = time.monotonic() - started
    if done.returncode == 0:
        return Outcome(False, "passes", seconds)
    error = re.search(r"^E +(\S.*)$", done.stdout, re.MULTILINE) or re.search(
        r"^(?:FAILED|ERROR).* - (.*)$", done.stdout
    )
    figures = re.search(rf"^{test.partition('test_')[2].partition('test_')[2]}: (.*) \|", done.stdout, re.MULTILINE)
    said = [found[1][:90] for found in (error, figures) if found]
    return Outcome(True, ", ".join(said), seconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
