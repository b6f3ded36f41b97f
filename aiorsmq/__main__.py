"""The command line: `aiorsmq`, or `python -m aiorsmq`. The demo needs no extra."""

from __future__ import annotations

import asyncio
import signal
import sys
from importlib.util import find_spec
from typing import Final

from . import __version__
from .cli.demo import demo
from .errors import ExtraNotInstalled, RedisSMQException

_HELP: Final = """\
aiorsmq {version}: RSMQ for asyncio, message queues on Redis or Valkey

  aiorsmq demo       show the library at work on a server of its own, in a few seconds; that is
                     the extra `embedded`, or valkey-server or redis-server on PATH
  aiorsmq --version  print the version

The commands that look after queues and run workers need the extra `cli`:

  pip install "aiorsmq-realtime[cli]"

In a program, start with `from aiorsmq import AsyncRSMQ`.
https://aiorsmq.github.io/aiorsmq/ has a tutorial and the reference; so has help(aiorsmq).
"""
"""Without the extra."""


def main() -> None:
    try:
        if find_spec("cyclopts") and find_spec("rich"):
            from .cli.app import main as run  # noqa: PLC0415 - the extra `cli`

            run(__version__)
        else:
            _run_demo()
    except KeyboardInterrupt:  # also while modules are imported
        sys.stderr.write("\nInterrupted.\n")
        sys.exit(128 + signal.SIGINT)


def _run_demo() -> None:
    """What works without the extra."""
    command, *_ = arguments = sys.argv[1:] or ["--help"]
    if command == "--version":
        sys.stdout.write(f"aiorsmq {__version__}\n")
    elif "--help" in arguments or "-h" in arguments:
        sys.stdout.write(_HELP.format(version=__version__))
    elif command != "demo":
        sys.stderr.write(f"{ExtraNotInstalled(f'aiorsmq {command}', 'cli')}\n")
        sys.exit(2)
    else:
        try:
            asyncio.run(demo())
        except RedisSMQException as error:  # no server to start, or it does not start
            sys.exit(f"aiorsmq: {error}")


if __name__ == "__main__":
    main()
