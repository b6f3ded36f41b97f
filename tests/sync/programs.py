"""What the tests of `aiorsmq.sync` share: waiting without an event loop, and programs."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

from support import PATIENCE

FORKS = "ignore:This process:DeprecationWarning"
"""Python 3.12 and later warn of forks in programs that have threads."""


def eventually(condition):
    """Wait until a condition is true, and return what it returned."""
    until = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.002)
    return result


def loop_threads():
    return [thread for thread in threading.enumerate() if thread.name == "aiorsmq.sync"]


@contextmanager
def running(*functions):
    """Run functions in threads during the block; at its end wait for them, and raise what they
    raised."""
    errors = []

    def run(function):
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    yield threads
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread is stuck"
    if errors:
        raise errors[0]


def start(program, *args):
    """Start a program that may warn of nothing."""
    options = ("-X", "dev", "-W", "error", "-W", FORKS)
    return subprocess.Popen(
        [sys.executable, *options, "-c", program, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def output_of(program, *args):
    """What a program prints that ends well, and complains of nothing."""
    with start(program, *args) as process:
        try:
            output, errors = process.communicate(timeout=2 * PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children, too
    complaints = [line for line in errors.splitlines() if "persistence" not in line]
    complaints = [line for line in complaints if not line.startswith("Executing <")]
    assert (process.returncode, complaints) == (0, []), errors
    return output
