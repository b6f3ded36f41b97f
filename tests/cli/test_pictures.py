"""The pictures in the documentation show what the commands show: `nox -s pictures` makes them."""

import asyncio
import json
import re
import shlex
import xml.dom.minidom
from importlib.metadata import version
from pathlib import Path

import pytest
from aiorsmq import AsyncRSMQ

from cli.pictures import picture, shown, text_of
from support import wait_until

PROJECT = Path(__file__).parents[2]
PICTURES = PROJECT / "docs" / "pictures"
COLUMNS = 100
SHOP = {
    "help": ["aiorsmq --help"],
    "ls": ["aiorsmq ls"],
    "info": ["aiorsmq info mails"],
    "dead": ["aiorsmq dead mails-dead"],
    "find": ["aiorsmq find mails --text customer-7"],
    "doctor": ["aiorsmq doctor"],
    "peek": ["aiorsmq peek mails --limit 5"],
    "top": ["aiorsmq top"],
    "check": [
        "aiorsmq check --age-warn 10m --age-crit 1h --dead-warn 0",
        "aiorsmq check mails --age-crit 1h --format nagios",
    ],
}
"""Pictures of the shop, and the commands in each."""
KEYS = {"aiorsmq top": (b"q", b"out 0")}
"""What is typed in a command that does not end by itself, and after what it has shown."""


@pytest.fixture(autouse=True)
def needs_the_locked_versions():
    """Other versions of these draw other boxes."""
    for name in ("cyclopts", "rich"):
        if f"\n{name}=={version(name)}\n" not in (PROJECT / "lock.txt").read_text():
            pytest.skip(f"not the locked version of {name}")


@pytest.fixture
async def shop(server, rsmq):
    """A shop in trouble: the program that sends mails does not run, three mails could not be sent,
    and somebody has paused the invoices. Only the orders are worked on.
    """
    mails, invoices, orders = (rsmq.queue(name) for name in ("mails", "invoices", "orders"))
    await mails.ensure(vt=60, max_receives=3, dead_letter_queue="mails-dead")
    await invoices.ensure(vt=120)
    await orders.ensure(vt=300, max_receives=5, dead_letter_queue="orders-dead")
    await let_die(server, [mail(n, to="bob@") for n in (1, 2)] + ["hello"])
    await mails.send_many([mail(n, to=f"customer-{n}@example.com") for n in range(3, 76)])
    await invoices.send_many([json.dumps({"invoice": n}) for n in range(1, 13)])
    for name, seconds in (("mails", 2 * 3600), ("invoices", 900)):
        for id, score in server.redis.zrange(f"rsmq:{name}", 0, -1, withscores=True):
            server.redis.zadd(f"rsmq:{name}", {id: score - seconds * 1000})
    await mails.send(mail(76, to="alice@example.com"), delay=3600)
    await invoices.pause()
    async with orders.worker(forever, concurrency=10, grace=0):
        await orders.send_many([json.dumps({"order": n}) for n in range(1, 6)])
        await wait_until(lambda: server.redis.hget("rsmq:orders:Q", "totalrecv") == b"5")
        yield


def mail(number, *, to):
    return json.dumps({"mail": number, "to": to})


async def let_die(server, bodies):
    """Mails that fail until they are dead letters, in a program that has ended."""

    def send_mail(message):
        address = json.loads(message.body)["to"]
        if not address.partition("@")[2]:
            raise ValueError(f"no host in {address!r}")

    async with AsyncRSMQ.from_url(server.url) as program:
        mails = program.queue("mails")
        worker = mails.worker(send_mail, backoff=lambda _: 0)
        await mails.send_many(bodies)
        async with worker:
            await wait_until(lambda: worker.stats.dead == len(bodies))


async def forever(_message):
    await asyncio.Event().wait()


@pytest.mark.parametrize("name", SHOP)
async def test_picture(name, shop, server, request):
    """A picture in the documentation has the text that the commands print now."""
    prompts = []
    for command in SHOP[name]:
        keys, wait_for = KEYS.get(command, (b"", b""))
        program, *arguments = shlex.split(command)
        assert program == "aiorsmq"
        output = await shown(
            arguments,
            url=server.url,
            address=(server.socket, "/run/valkey.sock"),
            columns=COLUMNS,
            keys=keys,
            wait_for=wait_for,
        )
        assert "Traceback" not in output.plain
        prompts.append((command, output))
    svg = picture(name, prompts, columns=COLUMNS)
    path = PICTURES / f"{name}.svg"
    if request.config.getoption("--write-pictures"):
        PICTURES.mkdir(exist_ok=True)
        path.write_text(svg)
    assert text_of(path.read_text()) == text_of(svg), "changed: run `nox -s pictures`, and look"


def test_no_other_host():
    """A picture is whole: it takes nothing from elsewhere, and no script is in it."""
    paths = sorted(PICTURES.glob("*.svg"))
    assert [path.stem for path in paths] == sorted(SHOP)
    for path in paths:
        text = path.read_text()
        xml.dom.minidom.parseString(text)
        assert re.findall(r"https?://\S+?\"", text) == ['http://www.w3.org/2000/svg"']
        assert not re.search(r"<script|@import|url\((?!#)", text)
