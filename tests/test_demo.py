"""The command line, and the README's first command."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress

import aiorsmq
import psutil
import pytest

from support import PATIENCE

INTERRUPTED = "Interrupted."


def test_demo():
    """`python -m aiorsmq demo` shows the library at work, ends by itself, and exits with 0."""
    demo = [sys.executable, "-m", "aiorsmq", "demo"]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=4 * PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("99th percentile") == 2
    assert "Done in" in done.stdout


@pytest.mark.parametrize(
    ("send", "number", "returncode", "errors"),
    [
        (os.kill, signal.SIGTERM, -signal.SIGTERM, ""),
        (os.kill, signal.SIGINT, 130, INTERRUPTED),
        (os.killpg, signal.SIGINT, 130, INTERRUPTED),
    ],
    ids=["terminated", "interrupted", "Ctrl-C"],
)
def test_end_of_demo(send, number, returncode, errors):
    """A demo that is ended early leaves no process behind, and Ctrl-C prints one line."""
    command = [sys.executable, "-u", "-m", "aiorsmq", "demo"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as demo:
        consumer = None
        try:
            lines = iter(demo.stdout.readline, "")
            waiting = filter(None, (re.match(r" +process (\d+) waits", line) for line in lines))
            consumer = psutil.Process(int(next(waiting)[1]))
            send(demo.pid, number)
            _, complaints = demo.communicate(timeout=PATIENCE)  # the consumer's too: it has ended
            consumer.wait(PATIENCE)
        finally:
            for process in (demo, consumer):
                if process is not None:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
    assert (demo.returncode, complaints.strip()) == (returncode, errors)


@pytest.mark.parametrize(
    ("arguments", "output"), [([], "demo "), (["--version"], f"aiorsmq {aiorsmq.__version__}\n")]
)
def test_what_there_is(arguments, output):
    """`python -m aiorsmq` lists the commands; with --version it says which version it is."""
    command = [sys.executable, "-m", "aiorsmq", *arguments]
    assert output in subprocess.run(command, capture_output=True, text=True, check=True).stdout


WITHOUT_CLI = (
    "import sys; sys.modules['cyclopts'] = None; from aiorsmq.__main__ import main; main()"
)


@pytest.mark.parametrize(
    ("arguments", "returncode", "output"),
    [
        ([], 0, 'pip install "aiorsmq-realtime[cli]"'),
        (["demo", "--help"], 0, "https://aiorsmq.github.io/aiorsmq/"),
        (["--version"], 0, f"aiorsmq {aiorsmq.__version__}\n"),
        (
            ["ls"],
            2,
            'aiorsmq ls requires an optional package: pip install "aiorsmq-realtime[cli]"\n',
        ),
    ],
)
def test_without_the_extra(arguments, returncode, output):
    """Without the extra it says what there is and how to get the rest; each other command, too."""
    command = [sys.executable, "-c", WITHOUT_CLI, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == returncode
    assert output in done.stdout + done.stderr
