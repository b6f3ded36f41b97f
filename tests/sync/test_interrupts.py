"""An exception that interrupts a thread in a call, as a signal handler's, cancels the call."""

import gc
import os
import signal
import threading
from contextlib import contextmanager

import pytest
from aiorsmq.sync import RSMQ
from aiorsmq.sync import _thread as loop_thread

from support import Server
from sync.programs import eventually, loop_threads, running


class TimeLimit(Exception):
    """As Celery's SoftTimeLimitExceeded."""


def exceed(*_):
    raise TimeLimit


@contextmanager
def time_limit():
    previous = signal.signal(signal.SIGUSR1, exceed)
    yield
    signal.signal(signal.SIGUSR1, previous)


def interrupt(number=signal.SIGUSR1):
    signal.pthread_kill(threading.main_thread().ident, number)


def is_listening(server: Server):
    return server.redis.pubsub_numsub("rsmq:rt:jobs")[0][1] == 1


def interrupt_when_listening(server, number=signal.SIGUSR1):
    eventually(lambda: is_listening(server))
    interrupt(number)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGUSR1, TimeLimit)]
)
@pytest.mark.parametrize(
    "wait",
    [
        lambda queue: queue.receive(wait=600),
        lambda queue: queue.receive_many(5, wait=600),
        lambda queue: queue.pop(wait=600),
        lambda queue: next(queue.messages()),
    ],
    ids=["receive", "receive_many", "pop", "messages"],
)
def test_waiting(server, queue, wait, number, error):
    """A call that waits ends, and takes no message that comes later."""
    with (
        time_limit(),
        running(lambda: interrupt_when_listening(server, number)),
        pytest.raises(error),
    ):
        wait(queue)
    queue.send("x")
    assert queue.receive().receive_count == 1


def test_message_that_comes_at_the_same_time(server, queue):
    """A message that comes as the thread is interrupted is returned, or goes back at once."""
    returned = 0

    def send_and_interrupt():
        queue.send("x")
        interrupt()

    with time_limit():
        for _ in range(50):
            message = None
            sender = threading.Thread(target=send_and_interrupt)
            try:
                try:
                    sender.start()
                    message = queue.receive(wait=600, vt=600)
                finally:
                    sender.join()
            except TimeLimit:
                pass
            if message is not None:
                returned += 1
                assert message.delete()
                continue
            message = eventually(queue.receive)
            assert message.delete()
    assert queue.attributes().msgs == 0


def test_result_that_nobody_takes(server, queue, monkeypatch):
    """A message that was received for a thread goes back, if the thread is interrupted before it
    has it."""
    free = loop_thread._Call.free

    def free_and_interrupt(call):
        if isinstance(call.result, loop_thread.Message):
            monkeypatch.undo()
            interrupt()
        free(call)

    queue.send("x")
    with time_limit(), pytest.raises(TimeLimit):
        monkeypatch.setattr(loop_thread._Call, "free", free_and_interrupt)
        queue.receive(vt=600)
    assert eventually(queue.receive).receive_count == 2


def test_results_that_cannot_go_back(server, queue, caplog, monkeypatch):
    """A message that cannot be released does not keep the others from it, and nothing is left
    for the event loop to complain about."""
    free = loop_thread._Call.free

    def count_refusals():
        return server.redis.info("errorstats").get("errorstat_WRONGTYPE", {}).get("count", 0)

    def free_and_interrupt(call):
        if isinstance(call.result, list):
            monkeypatch.undo()
            server.redis.rename("rsmq:jobs", "aside")
            server.redis.set("rsmq:jobs", "of another type")
            interrupt()
        free(call)

    queue.send_many(["1", "2", "3"])
    before = count_refusals()
    with time_limit(), pytest.raises(TimeLimit):
        monkeypatch.setattr(loop_thread._Call, "free", free_and_interrupt)
        queue.receive_many(3, vt=600)
    eventually(lambda: count_refusals() == before + 3)
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []
    server.redis.rename("aside", "rsmq:jobs")
    assert queue.attributes().hiddenmsgs == 3


def test_while_the_thread_starts(server, monkeypatch):
    """A thread that is interrupted while it starts the event loop leaves none behind."""
    start = threading.Thread.start

    def start_and_interrupt(thread):
        monkeypatch.undo()
        start(thread)
        raise KeyboardInterrupt

    with RSMQ.from_url(server.url) as rsmq:
        monkeypatch.setattr(threading.Thread, "start", start_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            rsmq.list_queues()
        eventually(lambda: loop_threads() == [])
        assert rsmq.list_queues() == set()


def test_before_the_loop_is_woken(server, queue, monkeypatch):
    """A thread that is interrupted before its call has begun leaves nothing, and the others'
    calls go on."""

    def interrupt_at_once(self):
        monkeypatch.undo()
        self._is_woken = True
        raise TimeLimit

    monkeypatch.setattr(loop_thread.LoopThread, "_wake", interrupt_at_once)
    with pytest.raises(TimeLimit):
        queue.send("x")
    assert queue.attributes().msgs in (0, 1)
    with running(lambda: queue.send("y")):
        pass


def test_second_interrupt(server, queue):
    """The second interrupt does not wait for the call to end, even if the event loop is blocked."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow:
        def encode(self, body):
            begun.set()
            go_on.wait()
            return body.encode()

        def decode(self, raw):
            return raw.decode()

    def interrupt_twice():
        begun.wait()
        interrupt()
        abandoned.wait()
        interrupt()

    abandoned = threading.Event()

    def note(self, call, abandon=loop_thread.LoopThread._abandon):
        abandoned.set()
        return abandon(self, call)

    with RSMQ.from_url(server.url) as rsmq, pytest.MonkeyPatch.context() as patch, time_limit():
        patch.setattr(loop_thread.LoopThread, "_abandon", note)
        with running(interrupt_twice), pytest.raises(TimeLimit):
            rsmq.queue("jobs", codec=Slow()).send("x")
        go_on.set()
    queue.attributes()


def test_in_a_block(server, queue):
    """A message whose block is interrupted goes back."""
    queue.send("x")
    with time_limit(), pytest.raises(TimeLimit):
        for message in queue.messages():
            with message:
                os.kill(os.getpid(), signal.SIGUSR1)
    assert queue.receive().receive_count == 2


def test_after_an_interrupt_all_is_closed(server):
    """A block of a client that is interrupted closes it."""
    with (
        time_limit(),
        running(lambda: interrupt_when_listening(server)),
        pytest.raises(TimeLimit),
        RSMQ.from_url(server.url) as rsmq,
    ):
        rsmq.create_queue(qname="jobs")
        rsmq.receive_message(qname="jobs", wait=600)
    assert loop_threads() == []
