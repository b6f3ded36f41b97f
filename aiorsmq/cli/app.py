"""The commands, and how a program ends that runs one."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cyclopts import App, CycloptsError, Group

from . import dead, look, mend, messages, queues, transfer
from .acl import acl
from .bench import bench
from .check import check, report_wrong_usage
from .demo import demo
from .doctor import doctor
from .errors import (
    EXPECTED,
    FAILURE,
    WRONG_USAGE,
    exit_code,
    explain,
    hide_passwords,
)
from .top import top
from .work import work

_HELP: Final = """\
Look after RSMQ queues, whichever library uses them.

Begin with `ls`, then `info QUEUE`; `doctor` says what is wrong, and `work` runs a worker. `demo`
needs no server. More: https://aiorsmq.github.io/aiorsmq/operations/cli/

The server is `--url`, or AIORSMQ_URL, or REDIS_URL, or redis://127.0.0.1:6379.

Exit codes: 0 done, 1 not done, 2 wrong usage, 3 the server cannot be reached, 130 interrupted.
`check` has those of Nagios: 0 ok, 1 warning, 2 critical, 3 unknown.
"""

_COMMANDS: Final[dict[str, tuple[Callable[..., Any], ...]]] = {
    "Queues": (
        *(queues.ls, queues.info, queues.create, queues.set_, queues.pause, queues.resume),
        *(transfer.export, transfer.import_, queues.purge, queues.rm),
    ),
    "Messages": (
        *(messages.send, messages.receive, messages.pop),
        *(look.peek, look.get, look.find, look.tail),
        *(messages.delete, mend.edit, mend.move),
    ),
    "Dead letters": (dead.dead, dead.redrive),
    "Run": (work,),
    "Look after": (top, check, doctor, acl),
    "Try it": (bench, demo),
}
"""The commands by group, in the order of the help."""


def new_app(version: str) -> App:
    app = App(
        name="aiorsmq",
        help=_HELP,
        version=f"aiorsmq {version}",
        suppress_keyboard_interrupt=False,
    )
    app.register_install_completion_command()  # pyright: ignore[reportUnknownMemberType]
    for group_number, (title, commands) in enumerate(_COMMANDS.items()):
        group = Group(title, sort_key=group_number)
        for number, command in enumerate(commands):
            name = command.__name__.strip("_").replace("_", "-")
            app.command(command, name=name, group=group, sort_key=number)
    return app


def main(version: str) -> None:
    _open_closed_streams()
    log = logging.StreamHandler()
    log.addFilter(lambda record: not record.name.startswith("aiorsmq.startup."))  # for `doctor`
    logging.basicConfig(format="aiorsmq: %(message)s", level=logging.WARNING, handlers=[log])
    try:
        try:
            new_app(version)(sys.argv[1:], exit_on_error=False, print_error=False)
        finally:
            sys.stdout.flush()  # here a closed pipe can still be told
    except CycloptsError as error:
        print(f"aiorsmq: {hide_passwords(explain(error))}", file=sys.stderr)
        is_check = sys.argv[1:2] == ["check"]
        sys.exit(report_wrong_usage(sys.argv) if is_check else WRONG_USAGE)
    except EXPECTED as error:
        print(f"aiorsmq: {explain(error)}", file=sys.stderr)
        sys.exit(exit_code(error))
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # as of `aiorsmq ls | head`
            print(f"aiorsmq: {explain(error)}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in it
        sys.exit(FAILURE)


def _open_closed_streams() -> None:
    """Have a standard stream that is closed be empty: its number would be the server's socket."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - stays open
