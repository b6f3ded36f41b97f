"""The command line: `python -m aiorsmq demo`."""

import argparse
import asyncio
import signal

from . import __version__
from .cli.demo import demo


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aiorsmq", description="RSMQ for asyncio")
    parser.add_argument("--version", action="version", version=f"aiorsmq {__version__}")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("demo", help="run a demo on a private server; takes a few seconds")
    if parser.parse_args().command is None:
        parser.print_help()
        return
    try:
        asyncio.run(demo())
    except KeyboardInterrupt:
        parser.exit(128 + signal.SIGINT, "\nInterrupted: the server has been stopped.\n")


if __name__ == "__main__":
    main()
