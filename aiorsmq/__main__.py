"""The command line: `python -m aiorsmq demo`."""

import argparse
import asyncio

from .cli.demo import demo


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aiorsmq", description="RSMQ for asyncio")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="run a demo on a private server; takes a few seconds")
    parser.parse_args()
    asyncio.run(demo())


if __name__ == "__main__":
    main()
