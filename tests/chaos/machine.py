"""Programs made at random of all that can be done to queues; after every step the server holds what
the model does.

Time passes without waiting: the scores are shifted. All times are multiples of 50 s, or far from
them, so that it is certain what is visible however long a program takes.
"""

import asyncio
import math

import redis
from aiorsmq import (
    BYTES,
    AsyncRSMQ,
    InvalidParameterValue,
    MessageTooLong,
    QueueAlreadyExists,
    QueueDoesNotExist,
    RedisSMQException,
)
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, multiple, rule

from chaos.draws import (
    bodies,
    delays,
    fence_of,
    handles,
    ids,
    ms,
    ms_of,
    names,
    periods,
    policies,
    rarely,
    seconds,
    some_ids,
    whole_seconds,
)
from chaos.model import Model, Receipt, Span, agrees
from chaos.node import Node
from support import now_ms, wait_until

QUEUES = ("jobs", "dead")
"""Each may be the other's dead-letter queue."""


class Programs(RuleBasedStateMachine):
    """The client's verbs."""

    site = None
    steps = 0

    def __init__(self):
        super().__init__()
        self.site.clear()
        self.models = {}
        self.models |= {name: Model(name, self.models) for name in QUEUES}
        self.model = self.models["jobs"]
        self.node = Node(self.site, "jobs")
        self.trouble = []
        self.runner = asyncio.Runner()
        self.runner.get_loop().set_exception_handler(
            lambda _, context: self.trouble.append(context)
        )
        self.rsmq = AsyncRSMQ.from_url(
            self.site.url, ns=self.site.ns, poll_interval=3600, **self.site.options
        )
        self.queues = {name: self.rsmq.queue(name, codec=BYTES) for name in QUEUES}
        self.queue = self.queues["jobs"]
        self.latest_id, self.sent_by_node = "", 0
        self.leased = dict.fromkeys(QUEUES, False)
        """Whether the last messages that came with the queue's own vt were hidden."""
        self.latest = 0
        self.begun = False
        self.killed = self.unsure = False

    @classmethod
    def summary(cls):
        """What there is to report besides."""
        return ""

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
        with self.site.redis.pipeline() as at_once:
            for name in QUEUES:
                key = self.site.key(name)
                at_once.hgetall(f"{key}:Q").zrange(key, 0, -1, withscores=True)
                at_once.hgetall(f"{key}:reasons")
            *content, listed, keys = at_once.smembers(self.site.key("QUEUES")).keys("*").execute()
        for at, (name, model) in enumerate(self.models.items()):
            fields, scores, reasons = content[3 * at : 3 * at + 3]
            if moved := model.meet(fields, dict(scores), reasons, name.encode() in listed):
                self.site.redis.zadd(self.site.key(name), moved)
        known = {
            self.site.key(name + what)
            for name in QUEUES
            for what in ("", ":Q", ":reasons", ":deleted")
        }
        assert {key.decode() for key in keys} <= known | {self.site.key("QUEUES")}

    def now(self):
        """A millisecond of its own for each step: so the order of scores does not depend on how
        fast we are.
        """
        while True:
            if (now := now_ms(self.site)) > self.latest:
                return now

    def run(self, work):
        """What the client returns or raises, and when. `unsure`: it may not know whether its first
        attempt counted.
        """
        self.unsure, self.killed = self.killed, False
        first = self.now()
        try:
            result = self.runner.run(work)
        except (RedisSMQException, redis.ConnectionError) as error:
            result = error
        return result, Span(first, self.now())

    def run_together(self, calls):
        async def all_of_them():
            return await asyncio.gather(*calls(), return_exceptions=True)

        return self.run(all_of_them())

    def let_pass(self, periods):
        for name, model in self.models.items() if periods else ():
            if model.messages:
                with self.site.redis.pipeline() as all_at_once:
                    for id in model.messages:
                        all_at_once.zincrby(self.site.key(name), -periods * 50_000, id)
                    all_at_once.execute()
                model.let_pass(periods * 50_000)

    def is_refused(self, at, result, *bodies):
        if not self.models[at].exists:
            assert isinstance(result, QueueDoesNotExist), result
        elif not all(map(self.models[at].fits, bodies)):
            assert isinstance(result, MessageTooLong), result
        else:
            assert not isinstance(result, Exception), result
        return isinstance(result, Exception)

    def is_lost(self, result):
        """A pop or a purge that was sent into a killed connection: the client cannot know that
        nothing was done.
        """
        return self.unsure and isinstance(result, redis.ConnectionError)

    def stored(self, at, now, id, body, delay):
        assert len(id) == 32
        assert id > self.latest_id
        self.latest_id = id
        self.models[at].send(now, id.encode(), body, ms(delay))
        return id.encode()

    def received(self, messages, receipts):
        """Each message says of itself what the model says."""
        got = [
            Receipt(m.id.encode(), m.body, m.receive_count, m.first_received_at, m.visible_until)
            for m in messages
        ]
        assert [receipt[:3] for receipt in got] == [receipt[:3] for receipt in receipts]
        for said, known in zip(got, receipts, strict=True):
            assert agrees(ms_of(said.visible), known.visible)
            first = (
                known.first
                if known.first is None or isinstance(known.first, Span)
                else int(known.first)
            )
            assert agrees(ms_of(said.first), first)
        return multiple(*messages)

    @initialize(
        target=ids,
        vt=whole_seconds,
        delay=st.sampled_from([0, 0, 50]),
        maxsize=st.sampled_from([1024, 1024, -1]),
        policy=policies,
        some=st.lists(bodies, max_size=9),
    )
    def begin(self, vt, delay, maxsize, policy, some):
        self.create("jobs", vt, delay, maxsize, policy, exist_ok=False)
        return self.send_many(
            "jobs", some if maxsize < 0 else [body[:1024] for body in some] or [b"first"], None
        )

    @rule(
        at=names,
        vt=whole_seconds,
        delay=whole_seconds,
        maxsize=st.sampled_from([1024, 65536, -1]),
        policy=policies,
        exist_ok=st.booleans(),
    )
    def create(self, at, vt, delay, maxsize, policy, exist_ok):
        model, (name, most) = self.models[at], self.read(at, policy)
        settings = {"max_receives": most, "dead_letter_queue": name, "exist_ok": exist_ok}
        result, now = self.run(
            self.queues[at].create(vt=vt, delay=delay, maxsize=maxsize, **settings)
        )
        if "vt" not in model.attributes and name and model.closes_a_circle(name):
            assert isinstance(result, InvalidParameterValue)
            return
        created = model.create(now, vt, delay, maxsize)
        if created and name:
            model.let_die(now, name, most)
        elif created and most:
            model.attributes["max_receives"] = b"%d" % most
        if self.unsure and result is True:  # it may be its own, of an attempt whose reply was lost
            return
        assert result is created if created or exist_ok else isinstance(result, QueueAlreadyExists)

    def read(self, at, policy):
        """The dead-letter queue and the max_receives of a policy."""
        dies, most = policy
        return next(name for name in QUEUES if name != at) if dies else None, most

    @rule(at=names, really=rarely, missing_ok=st.booleans())
    def delete_queue(self, at, really, missing_ok):
        if not really and self.models[at].exists:
            return
        result, _ = self.run(self.queues[at].delete(missing_ok=missing_ok))
        deleted = self.models[at].delete()
        if not (self.unsure and result is True):
            assert (
                result is deleted
                if deleted or missing_ok
                else isinstance(result, QueueDoesNotExist)
            )

    @rule(
        at=names,
        values=st.dictionaries(st.sampled_from(["vt", "delay"]), whole_seconds)
        | st.fixed_dictionaries(
            {"vt": whole_seconds, "maxsize": st.sampled_from([1024, 65536, -1])}
        ),
    )
    def set_attributes(self, at, values):
        result, now = self.run(self.queues[at].set_attributes(**values or {"vt": 100}))
        if not self.is_refused(at, result):
            self.models[at].change(now, **values or {"vt": 100})

    @rule(target=ids, at=names, body=bodies, delay=delays)
    def send(self, at, body, delay):
        result, now = self.run(self.queues[at].send(body, delay=delay))
        return (
            multiple()
            if self.is_refused(at, result, body)
            else self.stored(at, now, result, body, delay)
        )

    @rule(target=ids, at=names, some=st.lists(bodies, min_size=1, max_size=6), delay=delays)
    def send_many(self, at, some, delay):
        result, now = self.run(self.queues[at].send_many(some, delay=delay))
        if self.is_refused(at, result, *some):
            return multiple()
        return multiple(
            *[self.stored(at, now, id, body, delay) for id, body in zip(result, some, strict=True)]
        )

    @rule(target=ids, at=names, number=st.integers(60, 140), really=rarely)
    def send_a_crowd(self, at, number, really):
        """More than one script call hands out."""
        return self.send_many(at, [b"one of many"] * number, 0) if really else multiple()

    @rule(target=ids, at=names, number=st.integers(2, 5))
    def send_large(self, at, number):
        """So large that one script call does not hand out all."""
        if self.models[at].attribute("maxsize") >= 0:
            return multiple()
        return self.send_many(at, [b"large" * 80_000] * number, 0)

    @rule(target=ids, at=names, some=st.lists(st.tuples(bodies, delays), min_size=2, max_size=20))
    def send_together(self, at, some):
        results, now = self.run_together(
            lambda: [self.queues[at].send(body, delay=delay) for body, delay in some]
        )
        sent = [
            each
            for each in zip(results, some, strict=True)
            if not self.is_refused(at, each[0], each[1][0])
        ]
        return multiple(*[self.stored(at, now, id, *message) for id, message in sent])

    @rule(
        target=handles,
        at=names,
        later=periods,
        limit=st.integers(1, 20) | st.just(100),
        vt=st.none() | seconds,
    )
    def receive(self, at, later, limit, vt):
        self.let_pass(later)
        if vt is None and self.leased[at] and self.models[at].attribute("vt") == 0:
            # two calls at once, for it does not know yet that there are no leases now, find the
            # same
            limit = 1
        got = self.receive_together(at, 0, [limit], vt)
        if vt is None and got.values:
            self.leased[at] = self.models[at].attribute("vt") > 0
        return got

    @rule(
        target=handles,
        at=names,
        later=periods,
        limits=st.lists(st.sampled_from([1, 1, 1, 2, 10, 70]), min_size=2, max_size=6)
        | st.integers(2, 150).map(lambda number: [1] * number),
        vt=st.sampled_from([0, 0, 50, 100]),
    )
    def receive_together(self, at, later, limits, vt):
        self.let_pass(later)
        queue, model = self.queues[at], self.models[at]

        def receive(limit):
            return queue.receive(vt=vt) if limit == 1 else queue.receive_many(limit, vt=vt)

        results, now = self.run_together(lambda: map(receive, limits))
        if sum(self.is_refused(at, result) for result in results):
            return multiple()
        got = [
            result if isinstance(result, list) else [result] if result else [] for result in results
        ]
        before = set(model.messages)
        receipts = model.receive(now, limits, ms(vt))
        if len(receipts) == 1 < len(limits):  # any may have got them
            assert all(len(some) <= limit for some, limit in zip(got, limits, strict=True))
            got = [
                sorted(
                    (one for some in got for one in some),
                    key=lambda one: self.order(receipts[0], one),
                )
            ]
        self.wait_for_moves(at, before, now)
        return multiple(
            *[
                one
                for some in zip(got, receipts, strict=True)
                for one in self.received(*some).values
            ]
        )

    def order(self, receipts, message):
        return next(
            (n for n, receipt in enumerate(receipts) if receipt.id == message.id.encode()), -1
        )

    def wait_for_moves(self, at, before, now):
        """What has been received too often moves, or is dropped, in the background."""
        model = self.models[at]
        moved = before - model.messages.keys()

        def are_gone():
            return not moved.intersection(self.site.redis.zrange(self.site.key(at), 0, -1))

        there = model.dead.messages if model.dead else {}
        if moved:
            self.runner.run(wait_until(are_gone, timeout=2))
            by_then = Span(
                now.first, self.now() + 1
            )  # what was first received just now comes a ms later
            for id in moved & there.keys():
                stored = there[id]
                stored.score, stored.reason = by_then, (by_then, *stored.reason[1:])

    @rule(target=handles, at=names, limit=st.integers(1, 3))
    def receive_again(self, at, limit):
        """After the lease has ended: so there is a receipt that must no longer count."""
        first = self.receive(at, 0, limit, 50)
        self.the_server_holds_what_the_model_holds()
        return multiple(*first.values, *self.receive(at, 1, limit, 50).values)

    @rule(at=names, later=periods, number=st.sampled_from([1, 1, 2, 80]))
    def pop(self, at, later, number):
        self.let_pass(later)
        number = 1 if self.killed else number
        results, now = self.run_together(lambda: [self.queues[at].pop() for _ in range(number)])
        if self.is_lost(results[0]) or sum(self.is_refused(at, result) for result in results):
            return
        messages = [message for message in results if message is not None]
        self.received(messages, self.models[at].pop(now, number))
        assert not messages or self.run(messages[0].delete())[0] is False

    @rule(
        handle=handles,
        how=st.sampled_from(["delete", "delete", "extend", "release"]),
        seconds=seconds,
    )
    def settle(self, handle, how, seconds):
        self.settle_together([(handle, how, seconds)])

    @rule(
        some=st.lists(
            st.tuples(handles, st.sampled_from(["delete", "extend", "release"]), seconds),
            max_size=12,
        ),
        twice=st.booleans(),
    )
    def settle_together(self, some, twice=False):
        """The deletes go out before the others, or after: a message gets only one kind."""
        kinds, some = {}, some[:6] * 2 if twice else some
        some = [
            (m, how, s)
            for m, how, s in some
            if kinds.setdefault(m.id, how == "delete") == (how == "delete")
        ]

        def calls():
            return [
                m.delete() if how == "delete" else getattr(m, how)(seconds)
                for m, how, seconds in some
            ]

        results, now = self.run_together(calls)
        for result, (message, how, s) in zip(results, some, strict=True):
            seconds = None if how == "delete" else s
            self.settled(
                message.queue, result, now, message.id.encode(), fence_of(message), seconds
            )

    def settled(self, at, result, now, id, fence, seconds):
        """`seconds`: None for a delete. A delete whose first attempt was lost takes what is gone
        for deleted.

        In a queue that is not there nothing is settled.
        """
        model = self.models[at]
        gone = seconds is None and self.unsure and id not in model.messages
        done = (
            model.remove(id, fence) if seconds is None else model.hide(now, id, ms(seconds), fence)
        )
        assert result is done or gone

    @rule(at=names, some=st.lists(some_ids, min_size=1, max_size=12))
    def delete_many(self, at, some):
        results, now = self.run(self.queues[at].delete_many([id.decode() for id in some]))
        for result, id in zip(results, some, strict=True):
            self.settled(at, result, now, id, None, None)

    @rule(at=names, id=some_ids, seconds=seconds)
    def change_visibility(self, at, id, seconds):
        result, now = self.run(self.queues[at].change_visibility(id.decode(), seconds))
        if not self.is_lost(result):
            self.settled(at, result, now, id, None, seconds)

    @rule(target=handles, at=names, limit=st.integers(1, 12))
    def peek(self, at, limit):
        messages, _ = self.run(self.queues[at].peek(limit))
        return (
            multiple()
            if self.is_refused(at, messages)
            else self.received(messages, self.models[at].peek(limit))
        )

    @rule(at=names)
    def look(self, at):
        model = self.models[at]
        seen, now = self.run(self.queues[at].attributes())
        if self.is_refused(at, seen):
            return
        for name in ("vt", "delay", "maxsize", "totalrecv", "totalsent"):
            assert getattr(seen, name) == model.attribute(name), name
        for name in ("created", "modified"):
            assert ms_of(getattr(seen, name)) == 1000 * model.attribute(name), name
        assert (seen.msgs, seen.hiddenmsgs) == (
            len(model.messages),
            seen.msgs - len(model.due(now)),
        )
        assert (seen.max_receives or math.inf) == model.max_receives
        assert seen.dead_letter_queue == (model.dead.name if model.dead else None)
        listed, _ = self.run(self.rsmq.list_queues())
        assert listed == {name for name in QUEUES if self.models[name].listed}

    @rule(at=names, pause=rarely)
    def pause_or_resume(self, at, pause):
        model, queue = self.models[at], self.queues[at]
        result, now = self.run(queue.pause() if pause else queue.resume())
        if not self.is_refused(at, result):
            assert result is (model.pause(now) if pause else model.resume())

    @rule(at=names, really=rarely)
    def purge(self, at, really):
        if not really:
            return
        result, _ = self.run(self.queues[at].purge())
        if not self.is_lost(result) and not self.is_refused(at, result):
            assert result == self.models[at].purge()
