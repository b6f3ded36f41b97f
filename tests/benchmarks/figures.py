"""All figures, in the order in which they are measured and shown."""

import confirm
import growth
import idle
import latency
import throughput

FIGURES = [*throughput.FIGURES, *latency.FIGURES, *idle.FIGURES, *confirm.FIGURES, *growth.FIGURES]
