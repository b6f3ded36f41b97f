"""A real server, time that can be advanced, and drained queues, for tests.

With pytest, the fixtures `rsmq_server`, `rsmq_namespace`, `rsmq`, `rsmq_sync` and `rsmq_queue` are
there once the package is installed. Without it, start with `rsmq_test_server`. For synchronous
programs, `aiorsmq.testing.sync` has the same functions without `await`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import names_of

if TYPE_CHECKING:
    from ._public import *  # noqa: F403
else:
    # As in the package itself: pytest imports this in each run, for `plugin`.
    __getattr__, __dir__ = names_of("aiorsmq.testing._public")
