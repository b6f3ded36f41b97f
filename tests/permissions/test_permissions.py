"""A user whom the server refuses a command, a key or a channel: what a call does then.

Each role has its lines for `ACL SETUSER`. They are enough; and without any one word of them, each
call either works completely, or raises NotPermitted, names the word, and leaves the keys as they
were.
"""

import logging
import pickle
import re
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

import aiorsmq
import anyio
import pytest
from aiorsmq import AsyncRSMQ, NotPermitted
from aiorsmq.cli import roles
from aiorsmq.pyrsmq import RedisSMQ
from redis.exceptions import NoPermissionError

from permissions.calls import (
    Place,
    announcements,
    attributes,
    audit,
    audit_dead,
    change_visibility,
    create,
    create_both,
    create_with_others_there,
    delete,
    delete_many,
    delete_message,
    delete_queue,
    die,
    ensure,
    ensure_changes,
    export,
    extend,
    find,
    find_unlisted,
    get,
    hand_back,
    import_kept,
    import_lines,
    list_queues,
    look_without_reasons,
    pause,
    peek,
    pop,
    purge,
    purge_some,
    put_back,
    put_back_hidden,
    reason_groups,
    reasons,
    receive,
    receive_again,
    receive_behind_a_phantom,
    receive_none,
    redrive,
    redrive_pages,
    release,
    repair,
    replace,
    resume,
    send,
    send_again,
    send_many,
    server_info,
    set_attributes,
    set_no_policy,
    set_policy,
    snapshot,
    snapshots,
    unlist,
    wait,
    work,
)
from support import PATIENCE, check_keys, keyspace

TOTALS = {b"totalsent", b"totalrecv", b"modified"}


@pytest.fixture
def anyio_backend():
    """One event loop is enough: what is refused is the server's affair."""
    return "asyncio", {"debug": True}


class Role(NamedTuple):
    rights: roles.Role
    calls: tuple
    programs: tuple = ()
    """Of several calls: up to the one that is refused they have done something."""

    @property
    def keys(self):
        return self.rights.key_names("rsmq", "jobs", "dead")

    @property
    def channels(self):
        return self.rights.channel_names("rsmq", "jobs", "dead")


LOOKS = (
    *(snapshot, snapshots, attributes, list_queues, find_unlisted, server_info),
    *(peek, get, find, audit, audit_dead, reasons, reason_groups, announcements, export),
    look_without_reasons,
)

CALLS = {
    "producer": ((send, send_many, send_again),),
    "consumer": (
        (
            *(receive, receive_again, receive_none, pop, put_back_hidden),
            *(delete, delete_message, delete_many, extend, release, change_visibility),
        ),
        (receive_behind_a_phantom, hand_back, put_back, wait),
    ),
    "worker": ((), (work, die)),
    "observer": (LOOKS,),
    "admin": (
        (
            *LOOKS,
            *(create, create_both, create_with_others_there, ensure, ensure_changes),
            *(set_attributes, set_policy, set_no_policy),
            *(delete_queue, pause, resume, purge, purge_some, redrive, replace),
            *(import_lines, import_kept),
        ),
        (redrive_pages, repair, unlist),
    ),
}

ROLES = {name: Role(rights, *CALLS[name]) for name, rights in roles.ROLES.items()}
"""The words are those that `aiorsmq acl` prints."""


def acl(server, *rules):
    server.redis.execute_command("ACL", "SETUSER", "someone", *rules)


def grant_all(server):
    acl(server, "reset", "on", ">pw", "+@all", "allkeys", "allchannels")


def grant(server, role, *, without_command="", without_key="", channels="&rsmq:rt:*"):
    commands = [f"+{command}" for command in role.rights.commands if command != without_command]
    keys = [f"~{key}" for key in role.keys if key != without_key]
    acl(server, "-@all", *commands, "resetkeys", *keys, "resetchannels", *channels.split())


def keyspace_without_totals(server):
    keys = keyspace(server)
    for type, content in keys.values():
        if type == b"hash":
            for total in TOTALS:
                content.pop(total, None)
    return keys


REFUSAL = re.compile(
    r"script '(\w+)' for queue '(\w+)': the server denies (?:command (\w+)|one of its keys); "
    r"grant (.*)"
)


class Listening(logging.Handler):
    """The refusals that the log tells of, where nobody waits for the call; a worker's record of an
    attempt has them in its text.
    """

    def __init__(self):
        super().__init__()
        self.refusals = []

    def emit(self, record):
        for script, qname, command, grant in REFUSAL.findall(record.getMessage()):
            self.refusals.append(NotPermitted(qname, script, command or None, grant))


@pytest.fixture
async def attempt(server, proxy, rsmq):
    """`attempt(call, refuse)`: make a call without what `refuse` takes away; its NotPermitted, or
    None if it works.
    """
    listening = Listening()
    logging.getLogger("aiorsmq").addHandler(listening)

    async def attempt(call, refuse, *, is_one_call):
        server.redis.flushall()
        grant_all(server)
        listening.refusals.clear()
        options = {"username": "someone", "password": "pw", "poll_interval": 0.02}
        async with AsyncRSMQ.from_url(proxy.url, **options) as user:
            await user.list_queues()  # its connection is open
            async with aclosing(
                call(Place(server, proxy, rsmq, user, listening.refusals))
            ) as steps:
                await anext(steps)
                before = keyspace_without_totals(server)
                server.redis.script_flush()
                refuse()
                try:
                    with anyio.fail_after(PATIENCE):
                        await anext(steps, None)
                except NotPermitted as refused:
                    if is_one_call:
                        assert keyspace_without_totals(server) == before
                    return refused
                finally:
                    check_keys(server.redis)
        return listening.refusals[0] if listening.refusals else None

    yield attempt
    logging.getLogger("aiorsmq").removeHandler(listening)
    server.redis.acl_deluser("someone")


async def attempt_all(attempt, role, refuse):
    """Each call of a role; the refusals by the names of the calls."""
    refused = {}
    for call in role.calls + role.programs:
        try:
            refused[call.__name__] = await attempt(call, refuse, is_one_call=call in role.calls)
        except BaseException as error:
            error.add_note(f"in {call.__name__}")
            raise
    return {name: refusal for name, refusal in refused.items() if refusal is not None}


@pytest.mark.parametrize("name", ROLES)
async def test_enough(server, attempt, name):
    """With the words of its role a user can do all that the role is for."""
    role = ROLES[name]
    assert await attempt_all(attempt, role, lambda: grant(server, role)) == {}


@pytest.mark.parametrize(
    ("name", "command"),
    [(name, command) for name, role in ROLES.items() for command in role.rights.required.split()],
)
async def test_needed_command(server, attempt, name, command):
    """Without a needed command a call works, or raises NotPermitted, says what to grant, and has
    done nothing.
    """
    role = ROLES[name]
    refused = await attempt_all(attempt, role, lambda: grant(server, role, without_command=command))
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
    assert (
        await attempt_all(attempt, role, lambda: grant(server, role, without_command=command)) == {}
    )


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
        says = (
            "no permission to run script 'send' for queue 'jobs': the server denies "
            "command HSET; grant +hset"
        )
        assert str(error) == says
        assert (error.command, error.script, error.qname, error.grant) == (
            "HSET",
            "send",
            "jobs",
            "+hset",
        )
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.grant) == (NotPermitted, says, "+hset")
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


def test_readme():
    """The README has the lines of the roles; a producer's are also a consumer's, and those a
    worker's.
    """
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    words = []
    for name, role in ROLES.items():
        rights = re.search(
            rf"^\| \*\*{name}\*\* \| (all of the above, and )?`(.*)` \|$", readme, re.MULTILINE
        )
        words = rights[2].replace(r"\|", "|").split() + (words if rights[1] else [])
        assert sorted(word[1:] for word in words if word[0] == "+") == sorted(role.rights.commands)
        all_keys = ["rsmq:*"], ["rsmq:rt:*"]
        keys, channels = all_keys if name in ("observer", "admin") else (role.keys, role.channels)
        assert sorted(word[1:] for word in words if word[0] == "~") == sorted(keys)
        assert sorted(word[1:] for word in words if word[0] == "&") == sorted(channels)


def test_one_command_a_line():
    """Some servers name no command but a line of the script; so a line has one command."""
    for path in (Path(aiorsmq.__file__).parent / "_lua").glob("*.lua"):
        for line in path.read_text().splitlines():
            assert len(set(re.findall(r"redis\.p?call\('(\w+)'", line))) <= 1, (
                f"{path.name}: {line}"
            )
