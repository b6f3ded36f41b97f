"""The command line: `aiorsmq`, or `python -m aiorsmq`. The demo needs no extra."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from importlib.util import find_spec

from . import __version__
from .cli.demo import demo
from .errors import ExtraNotInstalled, RedisSMQException


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
    parser = argparse.ArgumentParser(prog="aiorsmq", description="RSMQ for asyncio")
    parser.add_argument("--version", action="version", version=f"aiorsmq {__version__}")
    needs = str(ExtraNotInstalled("Each other command", "cli"))
    parser.add_argument("command", nargs="?", metavar="demo", help=f"runs a demo. {needs}")
    command = parser.parse_known_args()[0].command
    if command is None:
        parser.print_help()
    elif command != "demo":
        parser.exit(2, f"{ExtraNotInstalled(f'aiorsmq {command}', 'cli')}\n")
    else:
        try:
            asyncio.run(demo())
        except RedisSMQException as error:  # no server to start, or it does not start
            parser.exit(1, f"aiorsmq: {error}\n")


if __name__ == "__main__":
    main()
