"""The server's clock, and the message ids that are minted from it."""

from __future__ import annotations

import os
import time

_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAIRS = [high + low for high in _BASE36 for low in _BASE36]
_ALPHANUMERICS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_TO_ALPHANUMERIC = bytes(_ALPHANUMERICS[byte % len(_ALPHANUMERICS)] for byte in range(256))
_RANDOM_LENGTH = 22

_MIN_JUMP_US = 1_000_000
"""Smaller differences between two replies count as clock drift, not as a jump."""


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, pair = divmod(number, 36 * 36)
        digits = _PAIRS[pair] + digits
    return digits.lstrip("0")


class Clock:
    """An estimate of the server's clock, learned from its replies, and the ids minted from it.

    Until the first reply it is this machine's clock. The estimate lags by the reply's network
    latency and never runs ahead of the server's clock, except for the drift of the two clocks
    between two replies. A reply that is read late, because the event loop was blocked, does not
    make it lag more: the estimate is kept for as long as the replies do not contradict it.
    """

    def __init__(self) -> None:
        self._offset_us = time.time_ns() // 1000 - time.monotonic_ns() // 1000
        self._max_offset_us = self._offset_us
        self._learned_us: int | None = None
        self._last_us = 0

    def learn(self, seconds: bytes, microseconds: bytes, sent_at: float) -> float:
        """Process a reply to TIME. `sent_at` is when TIME was sent, by the monotonic clock.

        Returns the minimum number of seconds by which the server's clock has jumped since the
        previous reply, negative if it jumped back; 0 if it has not jumped.
        """
        now_us = time.monotonic_ns() // 1000
        server_us = int(seconds) * 1_000_000 + int(microseconds)
        min_offset_us = server_us - now_us
        max_offset_us = server_us - int(sent_at * 1_000_000)
        previous_us, self._learned_us = self._learned_us, now_us
        if previous_us is not None and min_offset_us <= self._offset_us <= max_offset_us:
            self._max_offset_us = min(self._max_offset_us, max_offset_us)
            return 0.0
        forward_us = max(min_offset_us - self._max_offset_us, 0)
        backward_us = min(max_offset_us - self._offset_us, 0)
        jump_us = forward_us or backward_us
        self._offset_us = min_offset_us
        self._max_offset_us = max_offset_us
        if previous_us is None:
            return 0.0
        drift_us = (now_us - previous_us) // 1000  # 0.1 % of the time in between
        return jump_us / 1_000_000 if abs(jump_us) > _MIN_JUMP_US + drift_us else 0.0

    @property
    def is_known(self) -> bool:
        """Whether a reply has told the server's time."""
        return self._learned_us is not None

    def now_us(self) -> int:
        return time.monotonic_ns() // 1000 + self._offset_us

    def now_ms(self) -> float:
        # hot path: does not call now_us(), as it runs for each message that was claimed ahead
        return (time.monotonic_ns() // 1000 + self._offset_us) / 1000

    def restart(self) -> None:
        """Forget the ids minted so far. The server found them ahead of its clock, or far behind."""
        self._last_us = 0

    def mint(self, count: int) -> tuple[int, list[str]]:
        """Make `count` ascending ids that sort after all ids made before.

        Returns the time that the ids carry, in microseconds, and the ids.
        """
        self._last_us = max(self.now_us(), self._last_us + 1)
        prefix = _base36(self._last_us)
        letters = os.urandom(_RANDOM_LENGTH * count).translate(_TO_ALPHANUMERIC).decode("ascii")
        starts = range(0, len(letters), _RANDOM_LENGTH)
        return self._last_us, sorted(
            [prefix + letters[start : start + _RANDOM_LENGTH] for start in starts]
        )
