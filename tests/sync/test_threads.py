"""Threads share one event loop, and script calls."""

import asyncio
import contextvars
import gc
import threading
import weakref

import pytest
from aiorsmq import ClientClosed, InvalidParameterValue, MessageTooLong, QueueDoesNotExist
from aiorsmq.sync import RSMQ

from support import ids_in
from sync.programs import eventually, loop_threads, running


def test_shared_script_calls(server, queue):
    """What threads send at the same time shares script calls; each thread's order is kept."""
    sent = [[] for _ in range(8)]
    ready = threading.Barrier(8)

    def send(number):
        ready.wait()
        for _ in range(200):
            sent[number].append(queue.send("x"))

    server.reset_stats()
    with running(*(lambda number=number: send(number) for number in range(8))):
        pass
    assert server.script_calls() < 8 * 200 / 2
    assert sorted(id for ids in sent for id in ids) == sorted(ids_in(server))
    assert all(ids == sorted(ids) for ids in sent)


def test_each_message_once(queue):
    """Threads that receive at the same time get different messages, and all of them."""
    queue.send_many([str(number) for number in range(400)])
    bodies = []

    def consume():
        while message := queue.receive():
            assert message.delete()
            bodies.append(message.body)

    with running(*[consume] * 8):
        pass
    assert sorted(map(int, bodies)) == list(range(400))
    assert queue.attributes().msgs == 0


def test_one_stream_of_several_threads(queue):
    """Several threads may iterate over one iterator."""
    queue.send_many([str(number) for number in range(100)])
    messages = queue.messages()
    bodies = []

    def consume():
        for message in messages:
            with message:
                bodies.append(message.body)
            if len(bodies) == 100:
                messages.close()

    with running(*[consume] * 4):
        pass
    assert sorted(map(int, bodies)) == list(range(100))


def test_one_thread(server):
    """All clients share one event loop, whose thread ends with the last of them, and starts again
    with the next."""
    assert loop_threads() == []
    for _ in range(2):
        with RSMQ.from_url(server.url) as one, RSMQ.from_url(server.url, ns="other") as two:
            assert loop_threads() == []  # until the first call
            one.create_queue(qname="jobs")
            two.create_queue(qname="jobs")
            assert len(loop_threads()) == 1
            one.delete_queue(qname="jobs")
            two.delete_queue(qname="jobs")
            two.close()
            assert one.list_queues() == set()
            with pytest.raises(ClientClosed):
                two.list_queues()
        assert loop_threads() == []


def test_close_in_each_of_many_threads(server):
    """Clients that are opened and closed at the same time in many threads share loop threads that
    start and end, and none of them is refused."""

    def use():
        for _ in range(10):
            with RSMQ.from_url(server.url) as rsmq:
                assert rsmq.list_queues() == set()

    with running(*[use] * 6):
        pass


def test_close_while_threads_wait(server, queue):
    """Threads that wait get ClientClosed, iterations end, and nothing stays claimed."""
    rsmq = RSMQ.from_url(server.url)
    jobs = rsmq.queue("jobs")
    outcomes = []

    def receive():
        with pytest.raises(ClientClosed):
            jobs.receive(wait=600)
        outcomes.append("receive")

    def iterate():
        for _ in jobs.messages():
            pytest.fail("there is no message")
        outcomes.append("iteration")

    with running(receive, iterate, iterate):
        eventually(lambda: len(rsmq._twin.object._cores.cores()[0]._default_line._line) == 3)
        rsmq.close()
    assert sorted(outcomes) == ["iteration", "iteration", "receive"]
    with pytest.raises(ClientClosed):
        jobs.send("late")
    rsmq.close()  # again
    queue.send("to the others")
    assert queue.receive().receive_count == 1


def test_closed_before_use(server):
    with RSMQ.from_url(server.url) as rsmq:
        queue = rsmq.queue("jobs")
    with pytest.raises(ClientClosed):
        queue.send("late")


def test_errors(queue):
    """Errors are the asynchronous ones, and are raised where they were made."""
    queue.set_attributes(maxsize=1024)
    with pytest.raises(MessageTooLong) as caught:
        queue.send("x" * 2000)
    assert caught.traceback[0].path.name == "test_threads.py"
    queue.delete()
    with pytest.raises(QueueDoesNotExist):
        queue.send("x")


def test_bad_arguments(server, rsmq):
    """What is refused is refused when it is made, as by the asynchronous classes."""
    for make, parameter in (
        (lambda: RSMQ(ns=""), "ns"),
        (lambda: RSMQ(hostt="x"), "option"),
        (lambda: RSMQ.from_url("localhost"), "url"),
        (lambda: rsmq.queue("a b"), "name"),
        (lambda: rsmq.queue("jobs", codec=object()), "codec"),
        (lambda: rsmq.queue("jobs").messages(prefetch=-1), "prefetch"),
        (lambda: rsmq.queue("jobs").worker(print, concurrency=0), "concurrency"),
        (lambda: rsmq.queue("jobs").worker(asyncio.sleep), "handler"),
        (lambda: rsmq.worker([], print), "queues"),
        (lambda: rsmq.worker("jobs", print), "queues"),
        (lambda: rsmq.worker(["jobs", rsmq.queue("jobs")], print), "queues"),
        (lambda: rsmq.worker({"jobs": 0}, print), "queues"),
        (lambda: rsmq.queue("jobs").send(1), "body"),
        (lambda: rsmq.queue("jobs").send_many("abc"), "bodies"),
        (lambda: rsmq.queue("jobs").delete_many("abc"), "ids"),
    ):
        with pytest.raises(InvalidParameterValue) as caught:
            assert make() is None, parameter
        assert caught.value.parameter == parameter


def test_in_its_own_event_loop(rsmq, server):
    """A call in the event loop that it would wait for is refused, before anything is sent."""

    class Codec:
        def encode(self, body):
            with pytest.raises(RuntimeError, match="use AsyncRSMQ"):
                rsmq.queue("jobs").send(body)
            return b"from the codec"

        def decode(self, raw):
            return raw

    rsmq.create_queue(qname="jobs")
    rsmq.queue("jobs", codec=Codec()).send("x")
    assert [message.body for message in rsmq.queue("jobs").peek()] == ["from the codec"]


def test_in_another_event_loop(queue):
    """In a coroutine a call works, and blocks its event loop, as in a notebook."""

    async def cell():
        queue.send("x")
        return queue.receive().body

    assert asyncio.run(cell()) == "x"


def test_context(rsmq):
    """Context variables of the caller are seen by what runs for it."""
    request = contextvars.ContextVar("request")
    seen = []

    class Codec:
        def encode(self, body):
            seen.append(request.get())
            return body.encode()

        def decode(self, raw):
            return raw.decode()

    rsmq.create_queue(qname="jobs")
    request.set("of this thread")
    rsmq.queue("jobs", codec=Codec()).send("x")
    assert seen == ["of this thread"]


def test_generators(queue):
    """What a caller passes runs in its own thread, and may use the client."""

    def bodies():
        for number in range(3):
            queue.send(f"first {number}")
            yield str(number)

    queue.send_many(bodies())
    assert len(queue.peek()) == 6
    assert queue.delete_many(message.id for message in queue.peek()) == [True] * 6


def test_dropped_client(server):
    """A client that nobody has any more is closed, with a warning."""
    rsmq = RSMQ.from_url(server.url)
    rsmq.list_queues()
    with pytest.warns(ResourceWarning, match="unclosed <AsyncRSMQ"):
        del rsmq
    eventually(lambda: server.clients() == 0)
    eventually(lambda: loop_threads() == [])


def test_nothing_is_kept(server, rsmq):
    """Results, errors and handles of a thread are not kept when it is done with them."""
    queue = rsmq.queue("jobs")
    queue.create()
    queue.send("x")
    message = queue.receive()
    messages = queue.messages()
    kept = [weakref.ref(value) for value in (queue, message, messages)]
    gc.disable()
    try:
        del queue, message, messages
        with pytest.raises(QueueDoesNotExist) as caught:
            rsmq.queue("missing").send("x")
        error = weakref.ref(caught.value)
        del caught
        assert [ref() for ref in kept] == [None] * 3
        gc.collect()
        assert error() is None
    finally:
        gc.enable()
