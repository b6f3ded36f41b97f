"""Messages a second, this library beside Node rsmq, on one server in alternating runs: `nox -s benchmarks`.

Each measurement is a process of its own on an empty server; the contenders take turns; the medians of all rounds are
printed, and the median, smallest and largest of the rounds' ratios. Machines differ: read the ratios.
"""

import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import anyio
from aiorsmq import EmbeddedServer
from redis import Redis

HERE = Path(__file__).parent
NODE_MODULES = HERE.parent / "interop" / "node_modules"
CONTENDERS = {
    "aiorsmq": [sys.executable, str(HERE / "contender_aiorsmq.py")],
    "Node rsmq": ["node", str(HERE / "contender_node_rsmq.js")],
}
CALLERS = {1: 4_000, 16: 32_000, 64: 64_000, 256: 64_000}


def measure(contender: str, server: EmbeddedServer, what: str, callers: int) -> float:
    with Redis(unix_socket_path=server.socket) as redis:
        redis.flushall()
    where = server.url if contender == "aiorsmq" else server.socket
    done = subprocess.run(
        [*CONTENDERS[contender], where, what, str(callers), str(CALLERS[callers])],
        env=os.environ | {"NODE_PATH": str(NODE_MODULES)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return float(done.stdout)


async def main(rounds: int) -> None:
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {rounds} rounds\n")
    print("| messages a second | callers | aiorsmq | Node rsmq | ratio: median (smallest to largest) |")
    print("|---|---|---|---|---|")
    async with EmbeddedServer() as server:
        for what, name in (("send", "send"), ("receive", "receive + delete")):
            for callers in CALLERS:
                pairs = [[measure(contender, server, what, callers) for contender in CONTENDERS] for _ in range(rounds)]
                ours, theirs = (statistics.median(rates) for rates in zip(*pairs, strict=True))
                ratios = sorted(a / b for a, b in pairs)
                spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
                print(f"| {name} | {callers} | {ours:,.0f} | {theirs:,.0f} | {spread} |", flush=True)


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 5)
