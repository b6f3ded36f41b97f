"""The lane of confirmed calls: script calls with a WAIT behind them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from redis.exceptions import InvalidResponse, ReadOnlyError

from ..models import Confirm
from .call import Reply
from .lane import Lane, OnReply, ignore_loss
from .wire import Argument, Wire

OnCount = Callable[["int | Exception"], None]
"""Gets what the server says of the writes so far: how many replicas have them, or for `fsync()`
whether they are on disk; an exception if the connection was lost, or if the server refuses to
tell."""


def _ignore(_: object) -> None: ...


class Unconfirmed(list[Any]):
    """The reply of a script whose writes were not confirmed in time.

    Attributes:
        replicas: how many have them.
        lane: the lane on which they were made; None if it cannot be asked about them.
    """

    def __init__(self, reply: Reply, replicas: int, lane: ConfirmedLane | None) -> None:
        super().__init__(reply)
        self.replicas: int = replicas
        self.lane: ConfirmedLane | None = lane


class ConfirmedLane(Lane):
    """Writes a WAIT behind calls.

    WAIT covers all writes of its connection, and blocks it until it has replied. Calls that come
    while the server waits are held back, and then go out together, with one WAIT: one behind the
    other they would take the timeout of each when a replica does not answer.

    Whether the server accepts the command at all is asked before the first call that needs it: a
    refusal comes when nothing is stored.

    Args:
        on_doubt: called when not one replica has what was written.
    """

    def __init__(
        self,
        wire: Wire,
        on_lost: Callable[[], None] = ignore_loss,
        on_silence: Callable[[], object] | None = None,
        *,
        on_doubt: Callable[[], object],
    ) -> None:
        super().__init__(wire, on_lost, on_silence)
        self._on_doubt = on_doubt
        self._accepted: set[str] = set()
        """Commands, WAIT or WAITAOF."""
        self._untried: dict[str, list[_Held]] = {}
        """By command: what waits to know whether it is accepted."""
        self._held: list[_Held] = []
        self._is_planned = False
        """Whether they are about to go out."""
        self._waits = 0
        """How many are in flight."""

    def run(
        self,
        confirm: Confirm,
        command: tuple[Argument, ...],
        learn: Callable[[Reply], object],
        on_outcome: OnReply,
        *,
        is_asking: bool = False,
    ) -> None:
        """Send a script call, with a WAIT behind it.

        Args:
            learn: called with the script's reply as soon as it is there.
            on_outcome: called last, with the script's reply, an Unconfirmed, or an exception.
            is_asking: whether ASKING comes ahead of it.
        """
        outcome: Any = None

        def on_reply(reply: Any) -> None:
            nonlocal outcome
            outcome = reply if isinstance(reply, Exception) else _learned(reply, learn)
            if isinstance(outcome, Exception):
                on_outcome(outcome)

        def on_count(count: int | Exception) -> None:
            if not isinstance(outcome, Exception):
                on_outcome(self._result(outcome, count, confirm))

        held = _Held(confirm, on_count, on_reply, command, is_asking)
        if confirm.name in self._accepted:
            self._hold(held)
        elif confirm.name in self._untried:
            self._untried[confirm.name].append(held)
        else:
            self._untried[confirm.name] = [held]
            self.call(partial(self._on_trial, confirm.name), *confirm.trial)

    def _result(self, reply: Reply, count: int | Exception, confirm: Confirm) -> Any:
        if isinstance(count, Exception):
            # A server that refuses may be a replica now: when it is a primary again, it does not
            # have what it is asked about.
            return count if self.lost else Unconfirmed(reply, 0, None)
        return reply if count >= confirm.goal else Unconfirmed(reply, count, self)

    def recount(self, confirm: Confirm, on_count: OnCount) -> None:
        """Send a WAIT for what was written before."""
        self._hold(_Held(confirm, on_count, None, (), is_asking=False))

    def _on_trial(self, name: str, reply: Any) -> None:
        all_held = self._untried.pop(name)
        if not isinstance(reply, Exception):
            self._accepted.add(name)
            for held in all_held:
                self._hold(held)
            return
        if "cannot be used with replica" in str(reply):
            reply = ReadOnlyError(str(reply))
        for held in all_held:
            if held.on_reply is not None:
                self._tell(held.on_reply, reply)

    def _hold(self, held: _Held) -> None:
        self._held.append(held)
        self._plan()

    def _plan(self) -> None:
        """Write them a turn later: a WAIT that has ended makes room in batches of many queues, and
        what these send shares the next one."""
        if self._held and not (self._waits or self._is_planned):
            self._is_planned = True
            self._loop.call_soon(self._write_held)

    def _write_held(self) -> None:
        self._is_planned = False
        all_held = self._held
        self._held = []
        self.allowance = max(held.confirm.timeout for held in all_held)
        for confirm in dict.fromkeys(held.confirm for held in all_held):
            group = [held for held in all_held if held.confirm == confirm]
            for held in group:
                if held.is_asking:
                    self.call(_ignore, "ASKING")  # if it is refused, so is the call behind it
                if held.on_reply is not None:
                    self.call(held.on_reply, *held.command)
            self._waits += 1
            on_counts = [held.on_count for held in group]
            self.call(partial(self._on_wait, confirm, on_counts), *confirm.command)

    def _on_wait(self, confirm: Confirm, on_counts: list[OnCount], reply: Any) -> None:
        self._waits -= 1
        is_refused = isinstance(reply, Exception)
        count = reply if is_refused else confirm.count(reply)
        if confirm.replicas and not self.lost and (is_refused or not count):
            self._tell(self._on_doubt)
        for on_count in on_counts:
            self._tell(on_count, count)
        self._plan()

    def _tell(self, callback: Callable[..., object], *args: object) -> None:
        """What it raises disturbs no other call."""
        try:
            callback(*args)
        except Exception as raised:  # noqa: BLE001 - as for each reply
            self.report(raised)


def _learned(reply: Reply, learn: Callable[[Reply], object]) -> Reply | Exception:
    try:
        learn(reply)
    except Exception as error:  # noqa: BLE001 - its text may quote a body
        return InvalidResponse(f"unexpected reply to a script ({type(error).__name__})")
    return reply


class _Held(NamedTuple):
    """A call, or a WAIT alone, that is not written yet."""

    confirm: Confirm
    on_count: OnCount
    on_reply: OnReply | None
    command: tuple[Argument, ...]
    is_asking: bool
