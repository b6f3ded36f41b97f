"""At the end of a program its clients are closed, whatever its threads are doing."""

import signal
from pathlib import Path

import pytest

from support import PATIENCE
from sync.programs import eventually, output_of, start

PROGRAM = """
import sys, threading
from aiorsmq.sync import RSMQ

rsmq = RSMQ.from_url(sys.argv[1])
queue = rsmq.queue("jobs")
queue.create(exist_ok=True)
"""


def test_not_closed(server):
    """A client of a module need not be closed: what it has claimed goes back."""
    program = """
queue.send_many(["1", "2", "3"])
messages = queue.messages(prefetch=2, vt=600)
print(next(messages).body)
"""
    assert output_of(PROGRAM + program, server.url) == "1\n"
    assert server.redis.zcard("rsmq:jobs") == 3
    hidden = server.redis.zcount("rsmq:jobs", server.redis.time()[0] * 1000 + 60_000, "+inf")
    assert hidden == 1  # the one that was handed out


def test_daemon_threads_in_calls(server):
    """Daemon threads in all kinds of calls do not hold up the end; a worker hands back."""
    program = """
begun = threading.Event()
def handle(message):
    begun.set()
    threading.Event().wait()
def send():
    while True:
        queue.send("x")
for function in (
    lambda: queue.receive(wait=600),
    lambda: list(queue.messages()),
    lambda: rsmq.queue("work").worker(handle, create=True, vt=600).run(),
    send, send,
):
    threading.Thread(target=function, daemon=True).start()
threading.excepthook = lambda args: None  # ClientClosed
rsmq.queue("work").create(exist_ok=True)
rsmq.queue("work").send("job")
begun.wait()
print("end")
"""
    assert output_of(PROGRAM + program, server.url) == "end\n"
    hidden = server.redis.zcount("rsmq:work", server.redis.time()[0] * 1000 + 60_000, "+inf")
    assert hidden == 0


def test_worker_in_a_daemon_thread(server):
    """A worker that a daemon thread runs ends with the program, which says nothing about it."""
    program = """
begun = threading.Event()
worker = queue.worker(lambda message: begun.set())
threading.Thread(target=worker.run, daemon=True).start()
queue.send("x")
begun.wait()
print("end")
"""
    assert output_of(PROGRAM + program, server.url) == "end\n"


def test_waiting_daemon_thread_gets_client_closed(server):
    program = """
def receive():
    try:
        queue.receive(wait=600)
    except BaseException as error:
        print(type(error).__name__, flush=True)
thread = threading.Thread(target=receive, daemon=True)
thread.start()
import atexit, aiorsmq.sync._twin as twin, time
import redis
r = redis.Redis.from_url(sys.argv[1])
while not r.pubsub_numsub("rsmq:rt:jobs")[0][1]:
    time.sleep(0.01)
r.close()
twin._process.end()
thread.join()
"""
    assert output_of(PROGRAM + program, server.url) == "ClientClosed\n"


def test_call_in_flight(server, own_server):
    """A call of a daemon thread that waits for its reply gets it."""
    program = """
import os, signal
import redis
r = redis.Redis.from_url(sys.argv[1])
r.client_pause(1000)
outcomes = []
thread = threading.Thread(target=lambda: outcomes.append(queue.send("x")), daemon=True)
thread.start()
import aiorsmq.sync._twin as twin
while not twin._process.thread._running:
    pass
r.close()
twin._process.end()
thread.join()
print(len(outcomes))
"""
    assert output_of(PROGRAM + program, own_server().url) == "1\n"


def test_atexit(server):
    """Functions that are registered after the import can still use a client; calls after the end
    are refused, and start nothing."""
    program = """
import atexit
atexit.register(lambda: print(len(queue.send("x"))))
"""
    early = """
import atexit
def late():
    try:
        queue.send("late")
    except RuntimeError as error:
        print(type(error).__name__)
atexit.register(late)
"""
    assert output_of(early + PROGRAM + program, server.url) == "32\nClientClosed\n"


def test_error(server):
    """A program that ends with an error ends at once, with its traceback."""
    with start(PROGRAM + "queue.send('x')\nraise SystemError('mine')", server.url) as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert errors.rstrip().endswith("SystemError: mine")
    assert "unclosed" not in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_waiting(server, number):
    """A program that waits for a message ends at Ctrl-C with a KeyboardInterrupt, and at SIGTERM as
    any program; no message is lost."""
    with start(PROGRAM + "queue.receive(wait=600)", server.url) as process:
        try:
            eventually(lambda: server.redis.pubsub_numsub("rsmq:rt:jobs")[0][1])
            process.send_signal(number)
            _, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == -number
    assert errors.rstrip().endswith("KeyboardInterrupt") is (number == signal.SIGINT)
    assert "Traceback" not in errors.replace("Traceback", "", 1)
    assert "unclosed" not in errors


def test_embedded_server(tmp_path):
    """An embedded server ends with its program, and its folder with it."""
    output = output_of(PROGRAM + "print(rsmq)", "embedded://")
    socket = output.split()[-1].rstrip(">")
    assert socket.endswith("volatile.sock")
    eventually(lambda: not Path(socket).parent.exists())


def test_exit_in_a_handler(server):
    """SystemExit in a worker's handler ends the program, as in its main thread."""
    program = """
queue.send("x")
def handle(message):
    sys.exit("by the handler")
queue.worker(handle).run()
"""
    with start(PROGRAM + program, server.url) as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "by the handler" in errors
