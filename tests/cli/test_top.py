"""`top` shows the queues of a server all the time, on a real terminal."""

import io
import re
import signal
from dataclasses import replace
from datetime import timedelta

import pytest
from aiorsmq.cli.keys import Decoder
from aiorsmq.cli.rates import History, Rates, sparkline
from aiorsmq.cli.screen import Facts, View, screen
from rich.console import Console

from cli.terminal import Terminal
from support import make_it_theirs

FAST = ("top", "--every", "0.2")


async def test_screen(server, rsmq):
    """It shows what waits in each queue and how fast messages come and go; q quits."""
    await rsmq.queue("jobs").ensure(max_receives=3, dead_letter_queue="dead")
    await rsmq.queue("jobs").send_many(["a"] * 3)
    async with Terminal(*FAST, url=server.url) as terminal:
        await terminal.shows("jobs", "namespace rsmq", "2 queues", "3 visible", "nobody listens")
        heads = r"queue +visible +in flight +delayed +oldest▼ +in/s +out/s +visible, last \d min"
        assert re.search(f"^{heads} +dead +listening +state$", terminal.text, re.MULTILINE)
        for _ in range(5):
            await rsmq.queue("jobs").send("b")
            await rsmq.queue("jobs").receive()
        is_counted = lambda: all(terminal.rows()[0][n] not in ("0", "-") for n in (-6, -7))  # noqa: E731
        await terminal.meets(is_counted, "rates of jobs")
        await terminal.shows("5 in flight")
        terminal.press("q")
        assert await terminal.ends() == 0


async def test_keys(server, rsmq):
    """Keys sort, reverse, select, filter, pause, explain, and show one queue."""
    for number, name in enumerate(("alpha", "beta", "gamma")):
        await rsmq.queue(name).create(delay=number)
        await rsmq.queue(name).send_many(["x"] * (number + 1), delay=0)
    async with Terminal(*FAST, "--sort", "queue", url=server.url) as terminal:
        await terminal.shows("queue▲")
        await terminal.lists("alpha", "beta", "gamma")
        terminal.press("S")
        await terminal.lists("gamma", "beta", "alpha")
        terminal.press("s")
        await terminal.shows("visible▼", "s sort: visible")
        await terminal.lists("gamma", "beta", "alpha")
        terminal.press("j\x1b[B\r")
        await terminal.shows("max", "Enter back", "created", "alpha")
        assert "beta" not in terminal.text
        terminal.press("\x1b")
        await terminal.shows("Enter details", "gamma")
        terminal.press("/etx\x7f")
        await terminal.shows("filter: et█", "1 queue ")
        await terminal.lists("beta")
        terminal.press("\r")
        await terminal.shows("/ filter et")
        terminal.press("\x1b")
        await terminal.lists("gamma", "beta", "alpha")
        terminal.press("?")
        await terminal.shows("visible: can be received now")
        terminal.press("?p")
        await terminal.shows("display paused")
        await rsmq.queue("delta").create()
        terminal.press("j")
        await terminal.shows(" s ago")
        assert "delta" not in terminal.text
        terminal.press("p")
        await terminal.shows("delta")
        assert "paused" not in terminal.text


@pytest.mark.parametrize(
    ("end", "code"),
    [("Ctrl-C", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["ctrl-c", "sigterm", "sighup"],
)
async def test_end(server, queue, end, code):
    """However it ends, the terminal is as before."""
    async with Terminal(*FAST, url=server.url) as terminal:
        await terminal.shows("jobs")
        if end == "Ctrl-C":
            terminal.press("\x03")
        else:
            terminal.process.send_signal(end)
        assert await terminal.ends() == code
        assert b"Traceback" not in terminal.output


async def test_server_goes_away(own_server):
    """A server that goes away: the error and the age of what is shown, until it answers again."""
    server = own_server()
    server.redis.sadd("rsmq:QUEUES", "jobs")
    server.redis.hset("rsmq:jobs:Q", mapping={"vt": 30, "delay": 0, "maxsize": 65536})
    async with Terminal(*FAST, "--deadline", "0.5", url=server.url) as terminal:
        await terminal.shows("jobs")
        server.kill()
        await terminal.shows("shown is what was", "cannot reach", server.socket[-10:], "jobs")
        server.start()
        server.redis.sadd("rsmq:QUEUES", "later")
        server.redis.hset("rsmq:later:Q", mapping={"vt": 30, "delay": 0, "maxsize": 65536})
        await terminal.shows("later")
        assert "cannot reach" not in terminal.text
        terminal.press("q")
        assert await terminal.ends() == 0


async def test_resize(server, queue):
    """A narrow terminal has fewer columns; it is drawn again when the size changes."""
    async with Terminal("top", "--every", "1h", url=server.url, columns=80, lines=24) as terminal:
        await terminal.shows("jobs", "q quit")
        terminal.resize(columns=40, lines=12)
        await terminal.meets(lambda: "oldest▼" not in terminal.text, "fewer columns")
        await terminal.shows("jobs", "state")
        terminal.resize(columns=160, lines=40)
        await terminal.shows("listening", "visible, last")
        await terminal.meets(lambda: terminal.text.split("\n")[39].startswith("s sort"), "keys")


@pytest.mark.foreign_data
async def test_warning(server, queue, rsmq):
    """What the library warns of is on the screen, not across it."""
    await rsmq.queue("theirs").create()
    make_it_theirs(server, "theirs")
    async with Terminal(*FAST, url=server.url) as terminal:
        await terminal.shows("left out queue 'theirs'", "jobs", "q quit")
        assert terminal.text.splitlines()[2].startswith("left out queue")


async def test_once(cli, server, rsmq):
    """Without a terminal: one table with all columns, or JSON. One call looks at 8 queues."""
    assert "no queues in namespace" in (await cli("top", "--every", "0.2", expect=1)).err
    for number in range(17):
        await rsmq.queue(f"{number:03}-{'x' * 100}").create()
    server.reset_stats()
    result = await cli("top", "--every", "0.2", env={"COLUMNS": "80"})
    looks = 2
    assert server.script_calls() == looks * (3 + 1)  # 1 asks for the names
    lines = result.out.splitlines()
    assert len(lines) == 18
    assert lines[0].split()[-4:] == ["out/s", "dead", "listening", "state"]
    assert lines[1].split()[1:] == ["0", "0", "0", "-", "0", "0", "-", "0", "ok"]
    (queue,) = (await cli("top", "003*", "--every", "0.2", "--once", "--json")).json()
    assert queue["name"].startswith("003")
    assert queue["sent_per_second"] == 0
    assert "every=0.1" in (await cli("top", "--every", "100ms", expect=2)).err


async def test_rates(rsmq, queue):
    """Rates are those of the server's counters and clock; a queue that is new has none."""
    look = await queue.snapshot()
    history = History()

    def add(seconds, sent, **changes):
        time = look.server_time + timedelta(seconds=seconds)
        snapshot = replace(look, server_time=time, totalsent=sent, totalrecv=sent * 2, **changes)
        history.add([snapshot])
        return history.rates("jobs")

    assert add(0, 0) == Rates(None, None)
    assert add(2, 10) == Rates(5, 10)
    for second in range(3, 10):
        add(second, 10)
    assert add(10, 16) == Rates(2, 4)  # over three seconds
    assert add(11, 3) == Rates(None, None)  # the queue was created again
    assert add(12, 4) == Rates(1, 2)
    assert add(5, 4) == Rates(None, None)  # the clock was set back
    history.add([])
    assert history.rates("jobs") == Rates(None, None)


async def test_sparkline(queue):
    """A bar for each five seconds, none where nobody looked."""
    assert sparkline([0, 1, 50, 100, None]) == "▁▂▅█ "
    assert sparkline([0, 0]) == "▁▁"
    look = await queue.snapshot()
    start = look.server_time.replace(second=0, microsecond=0)
    history = History()
    for seconds, visible in ((0, 3), (2, 7), (4, 0), (5, 7), (17, 1)):
        history.add(
            [replace(look, server_time=start + timedelta(seconds=seconds), visible=visible)]
        )
    assert history.sparkline("jobs", 6) == "  ██ ▂"


@pytest.mark.parametrize("view", [View(), View(has_details=True), View(has_help=True)], ids=str)
async def test_fits(queue, view):
    """Whatever the size of the terminal, nothing is wrapped, and the keys are in the last line."""
    look = await queue.snapshot()
    history = History()
    queues = [replace(look, name=f"{n}-" + "long" * (n % 20), visible=9**n) for n in range(60)]
    history.add(queues)
    facts = Facts("127.0.0.1:6379", "rsmq", 1, queues, history, error="gone " * 40)
    for width in (20, 40, 80, 100, 140, 300):
        for height in (14, 24, 60):
            console = Console(file=io.StringIO(), width=width, height=height)
            lines = console.render_lines(screen(facts, view, width=width, height=height))
            texts = ["".join(segment.text for segment in line).rstrip() for line in lines]
            assert len(texts) == height
            assert texts[-1].startswith("s sort")
            assert texts[2].startswith("shown is what was")


async def test_decoder():
    """A key whose code arrives in pieces is one key; Esc is one if nothing follows."""
    decoder = Decoder()
    assert decoder.feed(b"a\x1b[") == ["a"]
    assert decoder.is_unfinished
    assert decoder.feed(b"B\xc3") == ["down"]
    assert decoder.feed(b"\xa9\r\x1b") == ["é", "enter"]
    assert decoder.flush() == ["esc"]
    assert decoder.feed(b"\x1b[\x01q\x1bx") == ["esc", "[", "q", "esc", "x"]
    assert not decoder.is_unfinished
