"""What goes out together: calls made in one turn of the event loop."""

from __future__ import annotations

from collections.abc import Callable

from .home import Home


class Turn:
    """Runs callbacks at the end of the current turn of the event loop, after the tasks that are
    about to run: what these tasks ask for goes out with what was asked for before.

    Each callback is told whether the turn is crowded, that is, whether others run with it.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._callbacks: list[Callable[[bool], None]] = []
        self._is_planned = False

    def add(self, callback: Callable[[bool], None]) -> None:
        """Run the callback at the end of this turn."""
        self._callbacks.append(callback)
        self.plan()

    def has_callbacks(self) -> bool:
        return bool(self._callbacks)

    def plan(self) -> None:
        """Fix the end of this turn now, for callbacks that are added before it.

        Called after each reply: the tasks it wakes make new calls, and these go out together, in
        the turn in which they are made.
        """
        if not self._is_planned:
            self._is_planned = True
            self._home.loop().call_soon(self._run)

    def _run(self) -> None:
        self._is_planned = False
        callbacks = self._callbacks
        self._callbacks = []
        is_crowded = len(callbacks) > 1
        for callback in callbacks:
            callback(is_crowded)
