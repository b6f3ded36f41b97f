"""The roles, what is tried of each, and how a user gets its lines."""

import logging
import re
from typing import NamedTuple

from aiorsmq import NotPermitted
from aiorsmq.cli import roles

from permissions.calls import (
    announcements,
    attributes,
    audit,
    audit_dead,
    change_visibility,
    create,
    create_both,
    create_with_others_there,
    delete,
    delete_dead,
    delete_many,
    delete_message,
    delete_queue,
    die,
    ensure,
    ensure_changes,
    export,
    extend,
    find,
    find_dead,
    find_unlisted,
    get,
    get_dead,
    hand_back,
    import_kept,
    import_lines,
    list_queues,
    look_without_reasons,
    pause,
    peek,
    peek_dead,
    pop,
    purge,
    purge_dead,
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
    renew,
    repair,
    replace,
    resume,
    send,
    send_again,
    send_confirmed,
    send_confirmed_again,
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
from support import keyspace

TOTALS = {b"totalsent", b"totalrecv", b"modified"}
OPTIONAL = {"config", "config|get", "client", "client|setinfo"}
"""What a connection asks for, and does without: with a warning less, or a name less."""


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
    "confirming producer": ((send, send_confirmed), (send_confirmed_again,)),
    "consumer": (
        (
            *(receive, receive_again, receive_none, pop, put_back_hidden),
            *(delete, delete_message, delete_many, extend, release, change_visibility),
        ),
        (receive_behind_a_phantom, hand_back, put_back, wait),
    ),
    "worker": ((), (work, renew, die)),
    "dead-letters": (
        (
            *(snapshot, snapshots, peek_dead, find_dead, get_dead, reasons, reason_groups),
            *(export, redrive, replace, purge_dead, purge_some, delete_dead),
        ),
        (redrive_pages,),
    ),
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

PRODUCER = roles.ROLES["producer"]
CONFIRMING = PRODUCER._replace(required=f"{PRODUCER.required} {roles.ADDITIONS['replicas']}")
RIGHTS = roles.ROLES | {"confirming producer": CONFIRMING}
ROLES = {name: Role(rights, *CALLS[name]) for name, rights in RIGHTS.items()}
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


def refused_meanwhile(server):
    """What the server has refused since the log was reset."""
    return {entry["object"] for entry in server.redis.acl_log(100)}


async def attempt_all(attempt, role, refuse, *, using=None, **options):
    """Each call of a role; the refusals by the names of the calls.

    `using`: only those that use this command; what uses none that is missing cannot miss it.
    """
    refused = {}
    for call in role.calls + role.programs:
        if using and call in role.calls and not await attempt.uses(call, using):
            continue
        try:
            refused[call.__name__] = await attempt(
                call, refuse, is_one_call=call in role.calls, **options
            )
        except BaseException as error:
            error.add_note(f"in {call.__name__}")
            raise
    return {name: refusal for name, refusal in refused.items() if refusal is not None}
