"""The server's clock, and the ids that are made from it."""

import os
import time

_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


_PAIRS = [high + low for high in _BASE36 for low in _BASE36]


_ALPHANUMERICS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


_TO_ALPHANUMERIC = bytes(_ALPHANUMERICS[byte % len(_ALPHANUMERICS)] for byte in range(256))


_RANDOM_PART = 22


_NO_JUMP_US = 1_000_000


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, pair = divmod(number, 36 * 36)
        digits = _PAIRS[pair] + digits
    return digits.lstrip("0")


class Clock:
    """The server's clock, as far as its replies have told, and the ids that are made from it.

    Until the first reply this machine's clock stands in for it. What a reply says is already old
    when it is read, so the estimate is late by the way back, never early (but for the drift of two
    clocks between two replies). One that is read much later, because the event loop was blocked,
    does not make it later: it is kept as long as it is possible.
    """

    def __init__(self) -> None:
        self._ahead_us = time.time_ns() // 1000 - time.monotonic_ns() // 1000
        self._ahead_at_most_us = self._ahead_us
        self._learned_us: int | None = None
        self._last_us = 0

    def learn(self, seconds: bytes, microseconds: bytes, asked: float) -> float:
        """Take in the reply to TIME, which was asked for at that moment of the monotonic clock.

        Returns by how many seconds, at the least, the server's clock has jumped since the reply
        before, or 0.
        """
        now_us, server_us = (
            time.monotonic_ns() // 1000,
            int(seconds) * 1_000_000 + int(microseconds),
        )
        at_least, at_most = server_us - now_us, server_us - int(asked * 1_000_000)
        learned_us, self._learned_us = self._learned_us, now_us
        if learned_us is not None and at_least <= self._ahead_us <= at_most:
            self._ahead_at_most_us = min(self._ahead_at_most_us, at_most)
            return 0.0
        jump_us = max(at_least - self._ahead_at_most_us, 0) or min(at_most - self._ahead_us, 0)
        self._ahead_us, self._ahead_at_most_us = at_least, at_most
        if learned_us is None:
            return 0.0
        usual = _NO_JUMP_US + (now_us - learned_us) // 1000  # two clocks drift apart
        return jump_us / 1_000_000 if abs(jump_us) > usual else 0.0

    @property
    def known(self) -> bool:
        """Whether a reply has told it."""
        return self._learned_us is not None

    def now_us(self) -> int:
        return time.monotonic_ns() // 1000 + self._ahead_us

    def now_ms(self) -> float:
        return (
            time.monotonic_ns() // 1000 + self._ahead_us
        ) / 1000  # asked for each message that was claimed ahead

    def restart(self) -> None:
        """Forget the ids made so far: the server says that they were ahead of its clock, or far
        behind it.
        """
        self._last_us = 0

    def mint(self, count: int) -> tuple[int, list[str]]:
        """Make `count` ids that ascend, and come after all that were made before.

        Returns the microsecond that they carry, and the ids.
        """
        self._last_us = max(self.now_us(), self._last_us + 1)
        prefix = _base36(self._last_us)
        letters = os.urandom(_RANDOM_PART * count).translate(_TO_ALPHANUMERIC).decode("ascii")
        return self._last_us, sorted(
            [
                prefix + letters[start : start + _RANDOM_PART]
                for start in range(0, len(letters), _RANDOM_PART)
            ]
        )
