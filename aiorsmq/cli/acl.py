"""What to grant to whom."""

from typing import Annotated, Literal

from cyclopts import Parameter

from .errors import WrongUsage
from .output import notes
from .roles import IN_CLUSTER, ROLES
from .server import DEFAULT_SERVER, Server


async def acl(
    role: Literal["producer", "consumer", "worker", "observer", "admin"],
    *,
    queue: str | None = None,
    dead_letter_queue: Annotated[str | None, Parameter(alias="--dlq")] = None,
    user: str | None = None,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Print the ACL line that gives a user what a role needs. Asks no server.

    Args:
        role: producer sends; consumer sends and receives, where no dead-letter queue is; worker
            does so where one is; observer looks at everything and changes nothing; admin looks
            after queues.
        queue: the only queue that it is for. If not given, it is for all of the namespace.
        dead_letter_queue: of that queue.
        user: the name of the user; by default that of the role.
    """
    is_cluster = "+cluster://" in server.url
    print(acl_line(role, user or role, server.ns, queue, dead_letter_queue, is_cluster=is_cluster))
    notes.print(
        f"For redis-cli's prompt: this user {ROLES[role].purpose}. Put a password for PASSWORD."
    )


def acl_line(
    role: str,
    user: str,
    ns: str = "rsmq",
    queue: str | None = None,
    dead: str | None = None,
    *,
    is_cluster: bool = False,
) -> str:
    """The arguments of `ACL SETUSER`, with that in front; `PASSWORD` stands for the password."""
    if any(word.isspace() or not word.isprintable() for word in f"{user}{ns}{queue}{dead}"):
        raise WrongUsage("an ACL cannot have names with spaces")
    if dead is not None and queue is None:
        raise WrongUsage("--dead-letter-queue goes with --queue")
    rights = ROLES[role]
    if queue is None:
        pattern = glob(ns)
        keys = [f"~{pattern}:*"]
        channels = [f"&{pattern}:rt:*"]
    else:
        keys = [f"~{glob(name)}" for name in rights.key_names(ns, queue, dead)]
        channels = [f"&{glob(name)}" for name in rights.channel_names(ns, queue, dead)]
    besides = IN_CLUSTER if is_cluster else ()
    commands = [f"+{command}" for command in (*rights.commands, *besides)]
    begin = f"ACL SETUSER {user} reset on >PASSWORD"
    return " ".join([begin, *keys, *channels, *commands])


def glob(name: str) -> str:
    """A pattern that only the name itself matches."""
    return "".join(f"\\{char}" if char in "*?[]^\\" else char for char in name)
