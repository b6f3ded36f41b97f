"""`python -m aiorsmq demo`."""

import argparse
import asyncio

from .cli.demo import demo


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aiorsmq", description="RSMQ for asyncio")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="show it at work on a server of its own; takes a few seconds")
    parser.parse_args()
    asyncio.run(demo())


if __name__ == "__main__":
    main()
