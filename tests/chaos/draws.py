"""What the steps of the programs are drawn from, and how they say what they get."""

from hypothesis import strategies as st
from hypothesis.stateful import Bundle

handles = Bundle("handles")
"""Every message that was ever handed out or looked at."""
ids = Bundle("ids")
"""Every id that was ever sent."""

names = st.sampled_from(["jobs", "jobs", "jobs", "dead"])
bodies = st.binary(max_size=12) | st.sampled_from([b"x" * 1024, b"x" * 1025])
whole_seconds = st.sampled_from([50, 0, 100, 9_999_999])
seconds = st.sampled_from([0, 0, 50, 100, 125.5, 9_999_999])
delays = st.none() | seconds
periods = st.integers(0, 3)
"""How many times 50 s pass before a step."""
policies = st.tuples(st.booleans(), st.sampled_from([None, 1, 2, 3]))
"""Whether there is a dead-letter queue, and a max_receives."""
some_ids = st.one_of(ids, ids, ids, st.sampled_from([b"vt", b"totalsent", b"0" * 32, b"short:rc"]))
rarely = st.integers(0, 7).map(lambda n: n == 7)
"""Without it most programs would end with an empty queue, or with none."""


def ms(seconds):
    return None if seconds is None else round(seconds * 1000)


def ms_of(moment):
    return None if moment is None else round(moment.timestamp() * 1000)


def fence_of(message):
    return message.receive_count, ms_of(message.first_received_at)
