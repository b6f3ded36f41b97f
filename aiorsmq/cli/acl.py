"""What to grant to whom."""

from collections.abc import Iterable
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from ..client import AsyncRSMQ
from .errors import WrongUsage
from .output import notes
from .roles import ADDITIONS, AT_SENTINELS, ROLES
from .server import DEFAULT_SERVER, Server

SENTINELS: Final = "sentinels"
SETS: Final = ("sentinel", "cluster")
"""As URLs name them, and as ADDITIONS does."""


async def acl(
    role: Literal[
        "producer", "consumer", "worker", "dead-letters", "observer", "admin", "sentinels"
    ],
    *,
    queue: str | None = None,
    dead_letter_queue: Annotated[str | None, Parameter(alias="--dlq")] = None,
    confirm: Annotated[list[Literal["replicas", "fsync"]] | None, Parameter(negative="")] = None,
    user: str | None = None,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Print the ACL line that gives a user what a role needs. Asks no server.

    The URL says whether the user needs what goes with sentinels, or with a cluster.

    Args:
        role: producer sends; consumer sends and receives, where no dead-letter queue is; worker
            does so where one is; dead-letters looks at dead letters, sends them back and deletes
            them; observer looks at everything and changes nothing; admin looks after queues.
            sentinels is for sentinel_username, a user of the sentinels themselves.
        queue: the only queue that it is for. If not given, it is for all of the namespace.
        dead_letter_queue: of that queue.
        confirm: what confirms the user's sends: aiorsmq.replicas() or aiorsmq.fsync(). May be given
            twice.
        user: the name of the user; by default that of the role.
    """
    async with AsyncRSMQ.from_url(server.url, ns=server.ns):
        pass  # the URL, and the namespace in a cluster, are right
    additions = [*(confirm or ()), *(name for name in SETS if f"+{name}://" in server.url)]
    line = acl_line(role, user or role, server.ns, queue, dead_letter_queue, additions)
    print(line)
    rights = AT_SENTINELS if role == SENTINELS else ROLES[role]
    notes.print(f"For redis-cli's prompt: this user {rights.purpose}. Put a password for PASSWORD.")


def acl_line(
    role: str,
    user: str,
    ns: str = "rsmq",
    queue: str | None = None,
    dead: str | None = None,
    additions: Iterable[str] = (),
) -> str:
    """The arguments of `ACL SETUSER`, with that in front; `PASSWORD` stands for the password.

    Args:
        additions: names in ADDITIONS.
    """
    if any(word.isspace() or not word.isprintable() for word in f"{user}{ns}{queue}{dead}"):
        raise WrongUsage("an ACL cannot have names with spaces")
    if dead is not None and queue is None:
        raise WrongUsage("--dead-letter-queue goes with --queue")
    rights = AT_SENTINELS if role == SENTINELS else ROLES[role]
    if rights is AT_SENTINELS:
        keys: list[str] = []
        channels = [f"&{glob(name)}" for name in rights.channel_names(ns, "", None)]
    elif queue is None:
        pattern = glob(ns)
        keys = [f"~{pattern}:*"]
        channels = [f"&{pattern}:rt:*"]
    else:
        keys = [f"~{glob(name)}" for name in rights.key_names(ns, queue, dead)]
        channels = [f"&{glob(name)}" for name in rights.channel_names(ns, queue, dead)]
    added = [command for name in additions for command in ADDITIONS[name].split()]
    commands = [f"+{command}" for command in [*rights.commands, *added]]
    begin = f"ACL SETUSER {user} reset on >PASSWORD"
    return " ".join([begin, *keys, *channels, *commands])


def glob(name: str) -> str:
    """A pattern that only the name itself matches."""
    return "".join(f"\\{char}" if char in "*?[]^\\" else char for char in name)
