"""Whether a queue is paused, as far as a client knows."""

from __future__ import annotations

import logging

_logger = logging.getLogger("aiorsmq.queue")


class Pause:
    """What the latest answer to a claim told about it. All lines of a queue share one."""

    def __init__(self, qname: str) -> None:
        self._qname = qname
        self.is_on: bool = False

    def learn(self, *, is_on: bool) -> None:
        if is_on == self.is_on:
            return
        self.is_on = is_on
        text = "queue %r is paused: it hands out nothing" if is_on else "queue %r is resumed"
        _logger.info(text, self._qname, extra={"queue": self._qname})
