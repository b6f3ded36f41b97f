"""A send that was not confirmed, for synchronous code."""

from __future__ import annotations

from typing import Any, cast

from .. import errors
from ._twin import current_thread


class NotConfirmed(errors.NotConfirmed):
    """As `aiorsmq.NotConfirmed`, whose handlers catch it, with a `retry()` that is not awaited."""

    def retry(self) -> str | list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Wait for the confirmation again, as long as the first time, and return what the send
        would have: the id, or the list of ids."""
        try:
            return cast(Any, self.repeat())
        except errors.NotConfirmed as error:
            raise retried_here(error) from None


def retried_here(error: errors.NotConfirmed) -> NotConfirmed:
    """What to raise for an error of the event loop's."""
    thread = current_thread()
    repeat: Any = lambda: thread.run(error.retry())  # noqa: E731
    return NotConfirmed(error.ids, error.replicas, error.needed, repeat)
