"""The same programs with all that may come in between: other ports, faults, nonsense, and consumers
that go.
"""

import asyncio
import contextlib

from hypothesis import strategies as st
from hypothesis.stateful import multiple, precondition, rule

from chaos.draws import bodies, handles, ids, ms, periods, rarely, seconds, some_ids, whole_seconds
from chaos.dying import DyingPrograms
from chaos.model import NONSENSE, Span
from support import wait_until

NO_QUEUES = [b"", b"QUEUES", b"jobs", b"a b", b"\xff"]
"""What is no dead-letter queue of "jobs"."""


def undoing_is_exact(self):
    """What is visible would stand as it stood before if it were received and that undone."""
    now = self.now()
    due = self.model.due(Span(now, now))
    messages, most = self.model.messages, self.model.max_receives
    clean = all(messages[id].is_clean and messages[id].fence[0] < most for id in due)
    return self.model.exists and not self.killed and clean


class DisturbedPrograms(DyingPrograms):
    """The whole state machine."""

    @rule()
    def scripts_are_forgotten(self):
        self.site.forget_scripts()

    @rule(noticed=st.booleans())
    def connections_are_killed(self, noticed):
        self.site.kill_clients()
        self.killed = True
        if noticed:
            self.look("jobs")

    @precondition(lambda self: self.model.messages)
    @rule(
        at=st.integers(0, 100),
        name=st.sampled_from(["rc", "fr"]),
        value=st.none() | st.sampled_from([*NONSENSE]),
    )
    def a_message_is_spoilt(self, at, name, value):
        id = self.model.in_order()[at % len(self.model.messages)]
        setattr(self.model.messages[id], name, value)
        self.write(id + b":" + name.encode(), value)

    @precondition(lambda self: self.model.messages)
    @rule(at=st.integers(0, 100))
    def a_body_is_lost(self, at):
        id = self.model.in_order()[at % len(self.model.messages)]
        self.model.messages[id].body = None
        self.write(id, None)

    @precondition(lambda self: self.model.exists)
    @rule(
        name=st.sampled_from(
            ["vt", "delay", "maxsize", "totalrecv", "totalsent", "created", "modified"]
        ),
        value=st.none() | st.sampled_from([*NONSENSE]),
    )
    def an_attribute_is_spoilt(self, name, value):
        self.spoil(name, value)

    @precondition(lambda self: self.model.exists)
    @rule(
        policy=st.tuples(st.just("max_receives"), st.sampled_from([None, b"0", *NONSENSE]))
        | st.tuples(st.just("dead_letter_queue"), st.sampled_from([None, *NO_QUEUES]))
    )
    def a_policy_is_spoilt(self, policy):
        self.spoil(*policy)

    def spoil(self, name, value):
        self.model.attributes[name] = value
        if value is None:
            del self.model.attributes[name]
        self.write(name, value)

    def write(self, field, value):
        if value is None:
            self.site.redis.hdel(self.site.key("jobs:Q"), field)
        else:
            self.site.redis.hset(self.site.key("jobs:Q"), field, value)

    @rule(vt=whole_seconds, delay=st.sampled_from([0, 50]))
    def node_creates(self, vt, delay):
        now = self.now()
        created = self.model.create(Span(now, now), vt, delay, 65536)
        assert self.node.create(now, vt, delay, 65536) == created

    @precondition(lambda self: self.model.exists)
    @rule(delete=rarely, vt=whole_seconds)
    def node_changes_the_queue(self, delete, vt):
        if delete:
            self.node.delete_queue()
            self.model.delete()
        else:
            now = self.now()
            self.node.set_vt(now, vt)
            self.model.change(Span(now, now), vt=vt)

    @precondition(lambda self: self.model.exists)
    @rule(target=ids, body=bodies, delay=seconds)
    def node_sends(self, body, delay):
        self.sent_by_node += 1
        now, id = self.now(), b"node%028d" % self.sent_by_node
        self.node.send(now, id, body, ms(delay))
        self.model.send(Span(now, now), id, body, ms(delay))
        return id

    @precondition(lambda self: self.model.exists)
    @rule(later=periods, pop=st.booleans(), vt=seconds)
    def node_receives(self, later, pop, vt):
        """Where it does not fail by itself: it knows no phantoms, and counts only what is a
        number.
        """
        self.let_pass(later)
        now = self.now()
        due = self.model.due(Span(now, now))
        if not self.model.can_count("totalrecv") or (
            due and not self.model.messages[due[0]].is_clean
        ):
            return
        reply = self.node.pop(now) if pop else self.node.receive(now, ms(vt))
        receive = (
            self.model.pop_as_node(Span(now, now))
            if pop
            else self.model.receive_as_node(Span(now, now), ms(vt))
        )
        assert reply[:3] == [value for receipt in receive for value in receipt[:3]]

    @rule(id=some_ids, vt=st.none() | seconds)
    def node_settles(self, id, vt):
        now = self.now()
        if vt is not None:
            assert self.node.change_visibility(now, id, ms(vt)) == self.model.hide(
                Span(now, now), id, ms(vt)
            )
        elif id in self.model.messages:
            self.node.delete(id)
            self.model.remove(id)

    @precondition(undoing_is_exact)
    @rule(
        target=handles,
        pop=st.booleans(),
        limit=st.integers(1, 5),
        turns=st.integers(0, 2),
        later=st.none() | st.integers(0, 3),
    )
    def a_consumer_is_cancelled(self, pop, limit, turns, later):
        """As its call goes out, or some turns of the event loop after its execution: it returned,
        or all is undone.
        """

        async def cancelled():
            calls = self.site.server.script_calls()
            asking = asyncio.ensure_future(
                self.queue.pop() if pop else self.queue.receive_many(limit, vt=100)
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            patience = 0 if later is None else 50
            while patience and self.site.server.script_calls() == calls:  # nothing is read then
                patience -= 1
            for _ in range(later or 0):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            return None if asking.cancelled() else asking.result()

        result, now = self.run(cancelled())
        if result is None or result == []:
            self.is_undone()
        elif pop:
            self.received([result], self.model.pop(now))
        else:
            return self.received(result, *self.model.receive(now, [limit], 100_000))
        return multiple()

    @precondition(undoing_is_exact)
    @rule(target=handles, count=st.integers(1, 4), prefetch=st.integers(0, 5))
    def a_stream_is_left(self, count, prefetch):
        """What it had claimed ahead is as it was."""
        now = self.now()
        count = 0 if self.model.paused else min(count, len(self.model.due(Span(now, now))))

        async def some():
            async with self.queue.messages(vt=100, prefetch=prefetch) as stream:
                return [await anext(stream) for _ in range(count)]

        messages, now = self.run(some())
        handed_out = self.received(messages, *self.model.receive(now, [count], 100_000))
        self.is_undone()
        return handed_out

    def is_undone(self):
        """Two further calls come after the claim, which may still be on its way, and after its
        undoing.
        """
        self.run(self.queue.attributes())
        self.run(self.queue.attributes())
        if self.site.redis.hget(self.site.key("jobs:Q"), "totalrecv") is not None:
            self.model.attributes.setdefault("totalrecv", b"0")

        def same():
            try:
                self.the_server_holds_what_the_model_holds()
            except AssertionError:
                return False
            return True

        with contextlib.suppress(TimeoutError):
            self.runner.run(wait_until(same, timeout=0.5))
        self.the_server_holds_what_the_model_holds()
