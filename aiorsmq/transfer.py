"""A queue's messages on their way into a file, and out of one."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Generic, TypeVar

from ._commands.export_lines import export_lines
from ._commands.import_lines import Importer
from ._commands.look import check_place
from ._consuming.core import QueueCore
from ._protocol import check_count
from .errors import InvalidParameterValue
from .models import Place
from .runs import Import

T = TypeVar("T")


class QueueTransfer(Generic[T]):
    """The part of `Queue` that exports and imports; see there for what holds for all its
    methods."""

    _core: QueueCore

    def export(self, *, after: Place | None = None) -> AsyncIterator[bytes]:
        r"""The messages of the queue as JSON lines, each with its `\n`, hidden ones included; for
        `async for`.

        Receives nothing and changes nothing. The first line is a header, see `ExportHeader`. Each
        other line is an object with `id`; `body`, or `body_base64` if the body is no UTF-8;
        `receive_count`; `first_received` (ms since the epoch, or null); `visible_at` (ms, or a
        string if no whole number of up to 15 digits); and of a dead letter whose reason is known,
        `reason` (or `reason_base64`) as it is stored. `import_lines` restores all of this byte for
        byte.

        Pages of about a millisecond of the server's time, in the order of `peek`. Of a queue in use
        a message may come twice, or be missed if it changes its place in between: `pause()` the
        queue first, or stop its consumers. Leaving the loop ends it.

        Args:
            after: go on behind the message at this place, and write no header. Of a line,
                `Place(str(line["visible_at"]), line["id"])`.
        """
        return export_lines(self._core.node, self._core.keys, check_place(after))

    def import_lines(
        self,
        lines: Iterable[bytes | str] | AsyncIterable[bytes | str],
        *,
        keep_ids: bool = False,
        keep_times: bool = False,
        skip: int = 0,
    ) -> Import:
        """Store the messages of an export: `await queue.import_lines(lines)` returns their number,
        and `async for done in queue.import_lines(lines)` yields how many lines are done so far.

        Nothing is stored before that; see `Import`, also for what cancelling does. The queue must
        exist. By default the messages are new ones: they get new ids, in the order of the lines,
        and are visible at once. Blank lines and headers are stepped over.

        Args:
            lines: as `export` has written them, for example an open file. A plain iterable is
                iterated in the event loop.
            keep_ids: keep ids, receive counts, first receipts, and the reasons of dead letters
                (for 14 days). A message whose id is in the queue is left alone, and not counted.
            keep_times: keep the times at which messages become visible.
            skip: pass over this number of lines at the beginning: they were imported before.

        Raises InvalidParameterValue for a line that cannot be read, and MessageTooLong for a body
        over the queue's maxsize. Both name the line; no message of its step was stored, and all
        before have been. A step whose reply is lost is repeated, and stores nothing twice; messages
        that were received and deleted by then may come back if they all were, or with `keep_ids`.
        """
        is_single = isinstance(lines, str | bytes)
        if is_single or not isinstance(lines, Iterable | AsyncIterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            reason = "must be an iterable of lines, not a single line"
            raise InvalidParameterValue("lines", lines, reason)
        importer = Importer(
            self._core.node,
            self._core.keys,
            lines,
            check_count("skip", skip, minimum=0),
            keep_ids=keep_ids,
            keep_times=keep_times,
        )
        return Import(importer.steps(), lambda: importer.stored)
