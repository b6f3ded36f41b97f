"""A user whom the server refuses a command, a key or a channel: what a call does then.

Each role has its lines for `ACL SETUSER`. They are enough; and without any one word of them, each
call either works completely, or raises NotPermitted, names the word, and leaves the keys as they
were.
"""

import pickle
import re
from pathlib import Path

import aiorsmq
import anyio
import pytest
from aiorsmq import AsyncRSMQ, NotPermitted
from aiorsmq.cli import roles
from aiorsmq.cli.acl import SENTINELS, acl_line
from aiorsmq.pyrsmq import RedisSMQ
from redis.exceptions import NoPermissionError

from docs.page import DOCS, blocks
from permissions.rights import (
    OPTIONAL,
    ROLES,
    acl,
    attempt_all,
    grant,
    grant_all,
    refused_meanwhile,
)
from support import PATIENCE

PAGE = DOCS / "operations" / "rights.md"
REFUSAL = (
    "no permission to run script 'send' for queue 'jobs': the server denies command HSET; "
    "grant +hset"
)


@pytest.mark.parametrize("name", ROLES)
async def test_enough(server, attempt, name):
    """With the words of its role a user can do all that the role is for, from its login on; the
    server refuses nothing of it but what each connection asks for in vain.
    """
    role = ROLES[name]
    server.redis.acl_log_reset()
    refused = await attempt_all(attempt, role, lambda: grant(server, role), before_login=True)
    assert refused == {}
    assert refused_meanwhile(server) <= OPTIONAL


@pytest.mark.parametrize(
    ("name", "command"),
    [(name, command) for name, role in ROLES.items() for command in role.rights.required.split()],
)
async def test_needed_command(server, attempt, name, command):
    """Without a needed command a call works, or raises NotPermitted, says what to grant, and has
    done nothing.
    """
    role = ROLES[name]
    refused = await attempt_all(
        attempt, role, lambda: grant(server, role, without_command=command), using=command
    )
    assert refused
    for refusal in refused.values():
        assert (refusal.command, refusal.grant) == (command.upper(), f"+{command}")
        assert refusal.qname in ("jobs", "dead", "*")


@pytest.mark.parametrize(
    ("name", "command"),
    [(name, command) for name, role in ROLES.items() for command in role.rights.optional.split()],
)
async def test_optional_command(server, attempt, name, command):
    """Without the right to announce, to listen, to count in totals or to tidy, all calls work."""
    role = ROLES[name]
    refused = await attempt_all(
        attempt, role, lambda: grant(server, role, without_command=command), using=command
    )
    assert refused == {}


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name, role in ROLES.items() for key in role.keys]
)
async def test_key(server, attempt, name, key):
    """Without one of the keys a call works, or raises NotPermitted, says which keys to grant, and
    has done nothing.
    """
    role = ROLES[name]
    refused = await attempt_all(attempt, role, lambda: grant(server, role, without_key=key))
    assert refused
    for refusal in refused.values():
        assert refusal.command is None
        assert f"~{key}" in refusal.grant.split()


@pytest.mark.parametrize("name", ROLES)
async def test_channel(server, attempt, name):
    """Without the channels all calls work."""
    role = ROLES[name]
    assert await attempt_all(attempt, role, lambda: grant(server, role, channels="")) == {}


async def test_what_it_says(server, rsmq, queue):
    """The error names the command, the script, the queue and what to grant; it is redis-py's
    NoPermissionError too.
    """
    acl(server, "reset", "on", ">pw", "+@all", "-hset", "~rsmq:jobs", "~rsmq:jobs:Q")
    async with AsyncRSMQ.from_url(server.url, username="someone", password="pw") as other:
        with pytest.raises(NoPermissionError) as refused:
            await other.queue("jobs").send("the body")
        error = refused.value
        assert str(error) == REFUSAL
        assert (error.command, error.script, error.qname, error.grant) == (
            "HSET",
            "send",
            "jobs",
            "+hset",
        )
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.grant) == (NotPermitted, REFUSAL, "+hset")
        with pytest.raises(NotPermitted, match=r"denies one of its keys; grant ~rsmq:QUEUES$"):
            await other.list_queues()
        acl(server, "-evalsha")
        with pytest.raises(NotPermitted, match=r"denies command EVALSHA; grant \+evalsha$"):
            await other.queue("jobs").receive()
    server.redis.acl_deluser("someone")


async def test_pyrsmq(server, queue):
    """PyRSMQ's API raises it too, also without exceptions: it is the server's error, not an
    answer.
    """
    acl(server, "reset", "on", ">pw", "+@all", "-hset", "allkeys")
    options = {"unix_socket_path": server.socket, "username": "someone", "password": "pw"}
    async with RedisSMQ(options=options, exceptions=False) as controller:
        with pytest.raises(NotPermitted):
            await controller.sendMessage(qname="jobs", message="x")
    server.redis.acl_deluser("someone")


async def test_queue_by_the_name_of_an_outage(server, rsmq):
    """A refusal is raised at once, whatever the queue is called."""
    await rsmq.create_queue(qname="LOADING")
    acl(server, "reset", "on", ">pw", "+@all", "-zadd", "allkeys")
    async with AsyncRSMQ.from_url(server.url, username="someone", password="pw") as other:
        with anyio.fail_after(PATIENCE), pytest.raises(NotPermitted):
            await other.queue("LOADING").send("x")
    server.redis.acl_deluser("someone")


async def test_repeated_without_the_dead_letter_queue(server, proxy, rsmq):
    """Who may not look into the dead-letter queue can repeat a send all the same."""
    await rsmq.create_queue(qname="jobs", max_receives=1, dead_letter_queue="dead")
    grant_all(server)
    async with AsyncRSMQ.from_url(proxy.url, username="someone", password="pw") as other:
        await other.list_queues()
        grant(server, ROLES["producer"])
        proxy.cut_after_execution = 1
        id = await other.queue("jobs").send("x")
    assert proxy.cuts == 1
    assert [message.id for message in await rsmq.queue("jobs").peek(5)] == [id]
    server.redis.acl_deluser("someone")


def test_page():
    """docs/operations/rights.md has the lines as `aiorsmq acl` prints them, and an error as it is
    raised.
    """
    lines, error = (block.text.splitlines() for block in blocks(PAGE) if block.language == "text")
    assert error == [REFUSAL]
    names = [*roles.ROLES, SENTINELS]
    for_jobs = ("producer", "consumer", "worker")
    assert lines == [
        acl_line(name, name, queue="jobs", dead="dead")
        if name in for_jobs
        else acl_line(name, name)
        for name in names
    ]


def test_one_command_a_line():
    """Some servers name no command but a line of the script; so a line has one command."""
    for path in (Path(aiorsmq.__file__).parent / "_lua").glob("*.lua"):
        for line in path.read_text().splitlines():
            assert len(set(re.findall(r"redis\.p?call\('(\w+)'", line))) <= 1, (
                f"{path.name}: {line}"
            )
