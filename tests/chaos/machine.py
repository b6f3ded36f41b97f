"""Programs made at random of all that can be done to a queue; after every step the server holds what the model does.

Time passes without waiting: the scores are shifted. All times are multiples of 50 s, or far from them, so that it is
certain what is visible however long a program takes.
"""

import asyncio

import redis
from aiorsmq import BYTES, AsyncRSMQ, MessageTooLong, QueueAlreadyExists, QueueDoesNotExist, RedisSMQException
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from chaos.model import Model, Receipt, Span, agrees
from chaos.node import Node

handles = Bundle("handles")
"""Every message that was ever handed out or looked at."""
ids = Bundle("ids")
"""Every id that was ever sent."""

bodies = st.binary(max_size=12) | st.sampled_from([b"x" * 1024, b"x" * 1025])
whole_seconds = st.sampled_from([50, 0, 100, 9_999_999])
seconds = st.sampled_from([0, 0, 50, 100, 125.5, 9_999_999])
delays = st.none() | seconds
periods = st.integers(0, 3)
"""How many times 50 s pass before a step."""
some_ids = st.one_of(ids, ids, ids, st.sampled_from([b"vt", b"totalsent", b"0" * 32, b"short:rc"]))
rarely = st.integers(0, 7).map(lambda n: n == 7)
"""Without it most programs would end with an empty queue, or with none."""


def ms(seconds):
    return None if seconds is None else round(seconds * 1000)


def ms_of(moment):
    return None if moment is None else round(moment.timestamp() * 1000)


class Programs(RuleBasedStateMachine):
    """The client's verbs."""

    server = None
    steps = 0

    def __init__(self):
        super().__init__()
        self.server.redis.flushall()
        self.model = Model()
        self.node = Node(self.server.redis, "jobs")
        self.trouble = []
        self.runner = asyncio.Runner()
        self.runner.get_loop().set_exception_handler(lambda _, context: self.trouble.append(context))
        self.rsmq = AsyncRSMQ.from_url(self.server.url, poll_interval=3600)
        self.queue = self.rsmq.queue("jobs", codec=BYTES)
        self.latest_id, self.sent_by_node = "", 0
        self.latest = 0
        self.begun = False
        self.killed = self.unsure = False

    def teardown(self):
        self.runner.run(self.rsmq.aclose())
        self.runner.close()
        assert self.trouble == []

    @invariant()
    def a_step_is_done(self):
        self.latest = self.now()
        self.the_server_holds_what_the_model_holds()
        assert self.trouble == []
        type(self).steps += self.begun
        self.begun = True

    def the_server_holds_what_the_model_holds(self):
        with self.server.redis.pipeline() as at_once:
            at_once.hgetall("rsmq:jobs:Q").zrange("rsmq:jobs", 0, -1, withscores=True)
            fields, scores, names, keys = at_once.smembers("rsmq:QUEUES").keys("*").execute()
        if moved := self.model.meet(fields, dict(scores), names == {b"jobs"}):
            self.server.redis.zadd("rsmq:jobs", moved)
        assert set(keys) <= {b"rsmq:QUEUES", b"rsmq:jobs", b"rsmq:jobs:Q", b"rsmq:jobs:deleted"}

    def now(self):
        """A millisecond of its own for each step: so the order of scores does not depend on how fast we are."""
        while True:
            seconds, microseconds = self.server.redis.time()
            if (now := seconds * 1000 + microseconds // 1000) > self.latest:
                return now

    def run(self, work):
        """What the client returns or raises, and when. `unsure`: it may not know whether its first attempt counted."""
        self.unsure, self.killed = self.killed, False
        first = self.now()
        try:
            result = self.runner.run(work)
        except (RedisSMQException, redis.ConnectionError) as error:
            result = error
        return result, Span(first, self.now())

    def let_pass(self, periods):
        if periods and self.model.messages:
            with self.server.redis.pipeline() as all_at_once:
                for id in self.model.messages:
                    all_at_once.zincrby("rsmq:jobs", -periods * 50_000, id)
                all_at_once.execute()
            self.model.let_pass(periods * 50_000)

    def is_refused(self, result, *bodies):
        if not self.model.exists:
            assert isinstance(result, QueueDoesNotExist), result
        elif not all(map(self.model.fits, bodies)):
            assert isinstance(result, MessageTooLong), result
        else:
            assert not isinstance(result, Exception), result
        return isinstance(result, Exception)

    def is_lost(self, result):
        """A pop or a purge that was sent into a killed connection: the client cannot know that nothing was done."""
        return self.unsure and isinstance(result, redis.ConnectionError)

    def stored(self, now, id, body, delay):
        assert len(id) == 32
        assert id > self.latest_id
        self.latest_id = id
        self.model.send(now, id.encode(), body, ms(delay))
        return id.encode()

    def received(self, messages, receipts):
        """Each message says of itself what the model says."""
        got = [Receipt(m.id.encode(), m.body, m.receive_count, m.first_received_at, m.visible_until) for m in messages]
        assert [receipt[:3] for receipt in got] == [receipt[:3] for receipt in receipts]
        for said, known in zip(got, receipts, strict=True):
            assert agrees(ms_of(said.visible), known.visible)
            first = known.first if known.first is None or isinstance(known.first, Span) else int(known.first)
            assert agrees(ms_of(said.first), first)
        return multiple(*messages)

    @initialize(target=ids, vt=whole_seconds, delay=st.sampled_from([0, 0, 50]), some=st.lists(bodies, max_size=9))
    def begin(self, vt, delay, some):
        self.create(vt, delay, 1024, exist_ok=False)
        return self.send_many(some or [b"first"], None)

    @rule(vt=whole_seconds, delay=whole_seconds, maxsize=st.sampled_from([1024, 65536, -1]), exist_ok=st.booleans())
    def create(self, vt, delay, maxsize, exist_ok):
        result, now = self.run(self.queue.create(vt=vt, delay=delay, maxsize=maxsize, exist_ok=exist_ok))
        created = self.model.create(now, vt, delay, maxsize)
        if self.unsure and result is True:  # it may be its own, of an attempt whose reply was lost
            return
        assert result is created if created or exist_ok else isinstance(result, QueueAlreadyExists)

    @rule(really=rarely, missing_ok=st.booleans())
    def delete_queue(self, really, missing_ok):
        if not really and self.model.exists:
            return
        result, _ = self.run(self.queue.delete(missing_ok=missing_ok))
        deleted = self.model.delete()
        if not (self.unsure and result is True):
            assert result is deleted if deleted or missing_ok else isinstance(result, QueueDoesNotExist)

    @rule(
        values=st.dictionaries(st.sampled_from(["vt", "delay"]), whole_seconds)
        | st.fixed_dictionaries({"vt": whole_seconds, "maxsize": st.sampled_from([1024, 65536, -1])})
    )
    def set_attributes(self, values):
        result, now = self.run(self.queue.set_attributes(**values or {"vt": 100}))
        if not self.is_refused(result):
            self.model.change(now, **values or {"vt": 100})

    @rule(target=ids, body=bodies, delay=delays)
    def send(self, body, delay):
        result, now = self.run(self.queue.send(body, delay=delay))
        return multiple() if self.is_refused(result, body) else self.stored(now, result, body, delay)

    @rule(target=ids, some=st.lists(bodies, min_size=1, max_size=6), delay=delays)
    def send_many(self, some, delay):
        result, now = self.run(self.queue.send_many(some, delay=delay))
        if self.is_refused(result, *some):
            return multiple()
        return multiple(*[self.stored(now, id, body, delay) for id, body in zip(result, some, strict=True)])

    @rule(target=ids, some=st.lists(st.tuples(bodies, delays), min_size=2, max_size=20))
    def send_together(self, some):
        async def all_of_them():
            sends = [self.queue.send(body, delay=delay) for body, delay in some]
            return await asyncio.gather(*sends, return_exceptions=True)

        results, now = self.run(all_of_them())
        sent = [each for each in zip(results, some, strict=True) if not self.is_refused(each[0], each[1][0])]
        return multiple(*[self.stored(now, id, *message) for id, message in sent])

    @rule(target=handles, later=periods, limit=st.integers(1, 20), vt=st.none() | seconds)
    def receive(self, later, limit, vt):
        self.let_pass(later)
        if ms(vt) == 0 or (vt is None and self.model.attribute("vt") == 0):
            limit = min(limit, 8)  # no more than one script call takes for certain: another would count them again
        one = limit == 1
        result, now = self.run(self.queue.receive(vt=vt) if one else self.queue.receive_many(limit, vt=vt))
        if self.is_refused(result):
            return multiple()
        messages = ([] if result is None else [result]) if one else result
        return self.received(messages, self.model.receive(now, limit, ms(vt)))

    @rule(target=handles, limit=st.integers(1, 3))
    def receive_again(self, limit):
        """After the lease has ended: so there is a receipt that must no longer count."""
        first = self.receive(0, limit, 50)
        self.the_server_holds_what_the_model_holds()
        return multiple(*first.values, *self.receive(1, limit, 50).values)

    @rule(later=periods)
    def pop(self, later):
        self.let_pass(later)
        message, now = self.run(self.queue.pop())
        if not self.is_lost(message) and not self.is_refused(message):
            self.received([] if message is None else [message], self.model.pop(now))
            assert message is None or self.run(message.delete())[0] is False

    @rule(handle=handles, how=st.sampled_from(["delete", "delete", "extend", "release"]), seconds=seconds)
    def settle(self, handle, how, seconds):
        self.settle_together([(handle, how, seconds)])

    @rule(
        some=st.lists(st.tuples(handles, st.sampled_from(["delete", "extend", "release"]), seconds), max_size=12),
        twice=st.booleans(),
    )
    def settle_together(self, some, twice=False):
        """The deletes go out before the others, or after: a message gets only one kind."""
        kinds, some = {}, some[:6] * 2 if twice else some
        some = [(m, how, s) for m, how, s in some if kinds.setdefault(m.id, how == "delete") == (how == "delete")]

        async def all_of_them():
            settled = [message.delete() if how == "delete" else getattr(message, how)(s) for message, how, s in some]
            return await asyncio.gather(*settled, return_exceptions=True)

        results, now = self.run(all_of_them())
        for result, (message, how, s) in zip(results, some, strict=True):
            self.settled(result, now, message.id.encode(), message.receive_count, None if how == "delete" else s)

    def settled(self, result, now, id, count, seconds):
        """`seconds`: None for a delete. A delete whose first attempt was lost takes what is gone for deleted."""
        if self.is_refused(result):
            return
        gone = seconds is None and self.unsure and id not in self.model.messages
        done = self.model.remove(id, count) if seconds is None else self.model.hide(now, id, ms(seconds), count)
        assert result is done or gone

    @rule(some=st.lists(some_ids, min_size=1, max_size=12))
    def delete_many(self, some):
        results, now = self.run(self.queue.delete_many([id.decode() for id in some]))
        if not isinstance(results, Exception):
            for result, id in zip(results, some, strict=True):
                self.settled(result, now, id, None, None)
        else:
            self.is_refused(results)

    @rule(id=some_ids, seconds=seconds)
    def change_visibility(self, id, seconds):
        result, now = self.run(self.queue.change_visibility(id.decode(), seconds))
        self.settled(result, now, id, None, seconds)

    @rule(target=handles, limit=st.integers(1, 12))
    def peek(self, limit):
        messages, _ = self.run(self.queue.peek(limit))
        return multiple() if self.is_refused(messages) else self.received(messages, self.model.peek(limit))

    @rule()
    def look(self):
        seen, now = self.run(self.queue.attributes())
        if self.is_refused(seen):
            return
        for name in ("vt", "delay", "maxsize", "totalrecv", "totalsent"):
            assert getattr(seen, name) == self.model.attribute(name), name
        for name in ("created", "modified"):
            assert ms_of(getattr(seen, name)) == 1000 * self.model.attribute(name), name
        assert (seen.msgs, seen.hiddenmsgs) == (len(self.model.messages), seen.msgs - len(self.model.due(now)))
        names, _ = self.run(self.rsmq.list_queues())
        assert names == ({"jobs"} if self.model.listed else set())

    @rule(really=rarely)
    def purge(self, really):
        if not really:
            return
        result, _ = self.run(self.queue.purge())
        if not self.is_lost(result) and not self.is_refused(result):
            assert result == self.model.purge()
