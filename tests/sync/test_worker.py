"""A worker of a synchronous program."""

import logging
import signal
import threading
import time

import pytest
from aiorsmq import InvalidParameterValue, QueueDoesNotExist, Reject, Retry
from aiorsmq.sync import RSMQ, Message
from aiorsmq.worker import SECOND_SIGNAL
from redis import ResponseError

from support import PATIENCE, at_once, make_it_theirs
from sync.programs import eventually, output_of, running, start


def test_background(queue):
    """`with worker:` works in the background of the block: handlers run in threads, at the same
    time, and use the client."""
    both = threading.Barrier(2)

    def handle(message: Message[str]) -> None:
        assert isinstance(message, Message)
        both.wait(PATIENCE)
        queue.send(f"result of {message.body}", delay=60)

    with queue.worker(handle, concurrency=2) as worker:
        eventually(lambda: worker.healthy)
        queue.send_many(["1", "2"])
        eventually(lambda: worker.stats.succeeded == 2)
    assert not worker.healthy
    assert sorted(message.body for message in queue.peek()) == ["result of 1", "result of 2"]


def test_run_and_stop(queue):
    """`run` works until `stop`, which any thread may call."""
    queue.send_many(["1", "2", "3"])

    def handle(message):
        if message.body == "3":
            worker.stop()

    worker = queue.worker(handle, concurrency=1)
    worker.run()
    assert worker.stats.succeeded == 3
    queue.send("4")
    with running(worker.run):  # again, in another thread
        eventually(lambda: worker.stats.succeeded == 4)
        worker.stop()


def test_stop_before_run(queue):
    """A `stop` that is faster than the thread that runs the worker is not lost, and holds for one
    run."""
    worker = queue.worker(print)
    worker.stop()
    with running(worker.run):
        pass
    with running(worker.run):
        eventually(lambda: worker.healthy)
        worker.stop()


def test_outcomes(rsmq, queue):
    """Retries, rejects, errors and `on_error` work as in an asynchronous worker."""
    queue.set_attributes(max_receives=3, dead_letter_queue="dead")
    rsmq.create_queue(qname="dead", exist_ok=True)
    queue.send_many(["retry", "reject", "fail", "done"])
    events, errors = [], []

    def handle(message):
        if message.body == "retry" and message.receive_count == 1:
            raise Retry(delay=0)
        if message.body == "reject":
            raise Reject("no good")
        if message.body == "fail":
            raise ValueError("mine")

    def on_error(message, error):
        errors.append((type(message), message.body, str(error)))

    worker = queue.worker(
        handle,
        backoff=at_once,
        on_error=on_error,
        on_event=lambda event: events.append(event.kind),
    )
    with worker:
        eventually(lambda: queue.attributes().msgs == 0)
        eventually(lambda: worker.stats.dead == 2)
    assert errors == [(Message, "fail", "mine")] * 3
    assert events.count("succeeded") == 2
    reasons = {letter.reason for letter in rsmq.queue("dead").reasons()}
    assert reasons == {"no good", "ValueError: mine"}


def test_several_queues(server, rsmq):
    """`RSMQ.worker` takes names and handles, of other clients too."""
    bodies = []
    with RSMQ.from_url(server.url, ns="other") as other:
        for client in (rsmq, other):
            client.create_queue(qname="jobs")
            client.queue("jobs").send("mine" if client is rsmq else "theirs")
        queues = {rsmq.queue("jobs"): 1}
        for worker in (
            rsmq.worker(queues, lambda message: bodies.append(message.body)),
            rsmq.worker([other.queue("jobs")], lambda message: bodies.append(message.body)),
        ):
            with worker:
                eventually(lambda worker=worker: worker.stats.succeeded == 1)
    assert bodies == ["mine", "theirs"]


LINE = "`def handler(message): ...`"


async def coroutine(message):
    pass


class Coroutine:
    async def __call__(self, message):
        pass


def generate(message):
    yield


BAD_HANDLERS = {
    "coroutine": (coroutine, f"must be a plain function: {LINE}; for an async one use AsyncRSMQ"),
    "object": (Coroutine(), f"must be a plain function: {LINE}; for an async one use AsyncRSMQ"),
    "generator": (generate, f"must not be a generator; without `yield`: {LINE}"),
    "none": (None, f"must be a function: {LINE}"),
    "no-argument": (lambda: 0, f"must take 1 argument, as in {LINE}"),
    "two-arguments": (lambda queue, message: 0, f"must take 1 argument, as in {LINE}"),
    "called": (
        generate("x"),
        "is the result of a call: pass the function itself, as in `worker(handler)`",
    ),
}


@pytest.mark.parametrize(("handler", "reason"), BAD_HANDLERS.values(), ids=BAD_HANDLERS)
def test_bad_handler(rsmq, queue, handler, reason):
    """What cannot be a handler is refused when the worker is made, with the line to write."""
    for make in (queue.worker, lambda handler: rsmq.worker([queue], handler)):
        with pytest.raises(InvalidParameterValue) as raised:
            make(handler)
        assert raised.value.parameter == "handler"
        assert raised.value.value is handler
        assert raised.value.reason == reason


def test_missing_queue(rsmq):
    worker = rsmq.queue("missing").worker(print)
    with pytest.raises(QueueDoesNotExist):
        worker.run()
    with pytest.raises(QueueDoesNotExist), worker:
        pytest.fail("the block runs")


def test_call_in_a_callback(queue):
    """In `on_event`, which runs in the event loop, a call is refused and nothing hangs."""
    refusals = []

    def on_event(event):
        try:
            queue.attributes()
        except RuntimeError as error:
            refusals.append(str(error))

    queue.send("x")
    with queue.worker(lambda _: None, on_event=on_event) as worker:
        eventually(lambda: worker.stats.succeeded == 1)
    assert all("use AsyncRSMQ" in text for text in refusals)
    assert refusals


def test_closed_client(server, queue, caplog):
    """A worker whose client is closed ends, and says so."""
    rsmq = RSMQ.from_url(server.url)
    worker = rsmq.queue("jobs").worker(print)
    with caplog.at_level(logging.WARNING), running(worker.run):
        eventually(lambda: worker.healthy)
        rsmq.close()
    assert "client was closed" in caplog.text


def test_closed_client_in_a_block(server, queue, caplog):
    """The block of a worker whose client was closed is left without an error, also when the event
    loop has ended or is another one."""
    with RSMQ.from_url(server.url) as rsmq, rsmq.queue("jobs").worker(print) as worker:
        rsmq.close()
        eventually(lambda: not worker.healthy)
    queue.delete()
    program = """
import sys, threading
from aiorsmq.sync import RSMQ

for other in None, RSMQ.from_url(sys.argv[1]):
    rsmq = RSMQ.from_url(sys.argv[1])
    with rsmq.queue("jobs").worker(print, create=True):
        (thread,) = [t for t in threading.enumerate() if t.name == "aiorsmq.sync"]
        rsmq.close()
        thread.join()
        if other:
            other.list_queues()
    print("left")
other.close()
"""
    with start(program, server.url) as process:
        output, errors = process.communicate(timeout=PATIENCE)
    assert (output, process.returncode) == ("left\nleft\n", 0), errors


PROGRAM = """
import sys, threading, time
from aiorsmq.sync import RSMQ

def handle(message):
    print("begun", flush=True)
    while worker.healthy:
        time.sleep(0.01)
    print("stopping", flush=True)
    if message.body == "quick":
        sys.stdin.readline()
    else:
        threading.Event().wait()
    print("done", flush=True)

with RSMQ.from_url(sys.argv[1]) as rsmq:
    worker = rsmq.queue("jobs").worker(handle, vt=600)
    worker.run()
print("end", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal(server, queue, number):
    """A signal stops a program's worker gracefully."""
    queue.send("quick")
    with start(PROGRAM, server.url) as process:
        try:
            assert process.stdout.readline() == "begun\n"
            process.send_signal(number)
            assert process.stdout.readline() == "stopping\n"
            output, errors = process.communicate("go on\n", timeout=PATIENCE)
        finally:
            process.kill()
    assert (output, process.returncode) == ("done\nend\n", 0), errors
    assert queue.attributes().msgs == 0


def test_early_signal(server, queue):
    """A signal that comes before the worker has begun is not lost."""
    program = """
import signal, sys, threading
from aiorsmq.sync import RSMQ

start = threading.Thread.start
def start_after_a_signal(thread):
    threading.Thread.start = start
    signal.raise_signal(signal.SIGTERM)
    start(thread)

with RSMQ.from_url(sys.argv[1]) as rsmq:
    worker = rsmq.queue("jobs").worker(print)
    threading.Thread.start = start_after_a_signal
    worker.run()
print("end")
"""
    assert output_of(program, server.url) == "end\n"


def test_second_signal(server, queue):
    """The second signal does not wait for handlers: their messages go back."""
    queue.send("endless")
    with start(PROGRAM, server.url) as process:
        try:
            assert process.stdout.readline() == "begun\n"
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == "stopping\n"
            time.sleep(SECOND_SIGNAL)  # it would be the first one again
            process.send_signal(signal.SIGTERM)
            message = eventually(queue.receive)
            assert message.receive_count == 2
            output, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (output, process.returncode) == ("end\n", 0), errors


@pytest.mark.parametrize("how", ["run", "block"])
def test_signal_that_comes_twice(server, queue, how):
    """A stop that arrives as two signals at once, as from GNU `timeout`, leaves handlers their
    grace."""
    program = """
import os, signal, sys, threading, time
from aiorsmq.sync import RSMQ, _signals

_signals.SECOND_SIGNAL = 3600  # however slow the machine is

heeds_signals = threading.Event()

def handle(message):
    heeds_signals.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    while worker.healthy:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1)

rsmq = RSMQ.from_url(sys.argv[1])
worker = rsmq.queue("jobs").worker(handle, vt=600)
if sys.argv[2] == "run":
    heeds_signals.set()
    worker.run()
else:
    with worker:
        heeds_signals.set()
        threading.Event().wait()
"""
    queue.send("x")
    with start(program, server.url, how) as process:
        try:
            _, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == (0 if how == "run" else -signal.SIGTERM), errors
    assert queue.attributes().msgs == 0


def test_signal_in_a_block(server, queue):
    """SIGTERM stops workers in the background gracefully, before the program dies of it."""
    program = """
import os, sys, threading
from aiorsmq.sync import RSMQ

def handle(message):
    print("begun", flush=True)
    sys.stdin.readline()

rsmq = RSMQ.from_url(sys.argv[1])
with rsmq.queue("jobs").worker(handle, vt=600), rsmq.queue("jobs").worker(handle, vt=600):
    threading.Event().wait()
"""
    queue.send_many(["1", "2"])
    with start(program, server.url) as process:
        try:
            assert [process.stdout.readline() for _ in range(2)] == ["begun\n"] * 2
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate("go on\ngo on\n", timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGTERM, errors
    assert queue.attributes().msgs == 0


def test_second_signal_in_a_block(server, queue):
    """A second SIGTERM does not wait for handlers."""
    program = """
import os, sys, threading, time
from aiorsmq.sync import RSMQ

def handle(message):
    while worker.healthy:
        time.sleep(0.01)
    print("stopping", flush=True)
    threading.Event().wait()

rsmq = RSMQ.from_url(sys.argv[1])
with rsmq.queue("jobs").worker(handle, vt=600) as worker:
    print("started", flush=True)
    threading.Event().wait()
"""
    queue.send("endless")
    with start(program, server.url) as process:
        try:
            assert process.stdout.readline() == "started\n"
            eventually(lambda: queue.attributes().hiddenmsgs)
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == "stopping\n"
            time.sleep(SECOND_SIGNAL)  # it would be the first one again
            process.send_signal(signal.SIGTERM)
            assert eventually(queue.receive).receive_count == 2
            assert process.wait(PATIENCE) == -signal.SIGTERM
        finally:
            process.kill()


def test_child_of_a_worker(server, queue):
    """SIGTERM ends a process that was forked by a program with a worker, as it ends any other."""
    program = """
import os, signal, sys, threading
from aiorsmq.sync import RSMQ

def handle(message):
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    worker.stop()

with RSMQ.from_url(sys.argv[1]) as rsmq:
    worker = rsmq.queue("jobs").worker(handle)
    worker.run()
"""
    queue.send("x")
    assert output_of(program, server.url) == f"{-signal.SIGTERM}\n"


def test_death(server, queue, caplog):
    """A worker that dies tells it at the end of the block, and in `error`, `trouble` and repr."""
    with pytest.raises(ResponseError), queue.worker(print) as worker:
        eventually(lambda: worker.healthy)
        assert repr(worker) == "<Worker of 'jobs': running, 0 of 10 handlers busy>"
        make_it_theirs(server, "jobs")
        eventually(lambda: worker.error)
        assert worker.trouble.startswith("died of ResponseError")
        assert not worker.healthy
    assert "the worker has stopped" in caplog.text
    server.redis.flushall()


def test_death_that_ends_the_program(own_server):
    """With `when_dead="terminate"` the program gets SIGTERM."""
    server = own_server()
    program = """
import sys, threading
from aiorsmq.sync import RSMQ

rsmq = RSMQ.from_url(sys.argv[1])
with rsmq.queue("jobs").worker(print, create=True, when_dead="terminate") as worker:
    print("started", flush=True)
    threading.Event().wait()
"""
    with start(program, server.url) as process:
        try:
            assert process.stdout.readline() == "started\n"
            eventually(lambda: server.redis.pubsub_numsub("rsmq:rt:jobs")[0][1])
            make_it_theirs(server, "jobs")
            assert process.wait(PATIENCE) == -signal.SIGTERM
        finally:
            process.kill()
