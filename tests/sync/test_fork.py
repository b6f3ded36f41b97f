"""A forked process that uses its parent's client gets an event loop and connections of its own."""

import pytest

from sync.programs import output_of

PROGRAM = """
import os, sys
from aiorsmq.sync import RSMQ

rsmq = RSMQ.from_url(sys.argv[1])
queue = rsmq.queue("jobs")
queue.create(exist_ok=True)

def in_child(function, exit=os._exit):
    pid = os.fork()
    if pid == 0:
        try:
            function()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            exit(1)
        exit(0)
    return pid

def wait(*pids):
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
"""


def run(server, program):
    url = server if isinstance(server, str) else server.url
    return output_of(PROGRAM + program, url)


def test_parent_and_children(server):
    """Children use what their parent has made and used; each has a connection of its own."""
    program = """
queue.send("of the parent")
def work():
    message = queue.receive(wait=60)
    with message:
        queue.send("of the child")
    assert len([c for c in redis.client_list() if c["name"] == ""]) > 1
import redis as redis_py
redis = redis_py.Redis.from_url(sys.argv[1])
for _ in range(3):
    print(*wait(in_child(work)), *[message.body for message in queue.peek()])
queue.send("still here")
print(len(queue.peek()))
redis.close()
"""
    assert run(server, program) == "0 of the child\n" * 3 + "2\n"


@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
def test_fork_under_load(server, leave):
    """Threads that send, and a logger whose lock is often held, do not hold up the children."""
    program = """
import logging, threading, time

class Stream:  # no file: the lock of a file's buffer stays held in a child, by Python's own fault
    def write(self, text):
        time.sleep(0)
    def flush(self):
        pass

logging.basicConfig(level=logging.DEBUG, stream=Stream())
stopping = threading.Event()
log = logging.getLogger("aiorsmq.load")

class Codec:
    def encode(self, body):
        log.info("encoding")
        return body.encode()
    def decode(self, raw):
        return raw.decode()

queue = rsmq.queue("jobs", codec=Codec())
def send():
    while not stopping.is_set():
        queue.send("x")
threads = [threading.Thread(target=send) for _ in range(4)]
for thread in threads:
    thread.start()
pids = [in_child(lambda: queue.send("of a child"), LEAVE) for _ in range(20)]
codes = wait(*pids)
stopping.set()
for thread in threads:
    thread.join()
print(codes.count(0))
queue.send("still here")
""".replace("LEAVE", f"lambda code: stopping.set() or {leave}(code)")
    assert run(server, program) == "20\n"
    children = [raw for raw in server.redis.hvals("rsmq:jobs:Q") if raw == b"of a child"]
    assert len(children) == 20


def test_lock_held(server):
    """A fork while another thread starts the event loop, and holds its lock, harms no child."""
    program = """
import threading
from aiorsmq.sync import _twin
held, go_on = threading.Event(), threading.Event()
def hold():
    with _twin._process.lock:
        held.set()
        go_on.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
def work():
    with RSMQ.from_url(sys.argv[1]) as mine:
        mine.queue("jobs").send("x")
    queue.send("y")
print(wait(in_child(work)))
go_on.set()
thread.join()
print(len(queue.peek()))
"""
    assert run(server, program) == "[0]\n2\n"


def test_child_of_a_child(server):
    program = """
def work():
    queue.send("of the child")
    assert wait(in_child(lambda: queue.send("of its child"))) == [0]
    queue.send("of the child")
print(wait(in_child(work)), len(queue.peek()))
"""
    assert run(server, program) == "[0] 3\n"


def test_child_closes(server):
    """A child that closes its client, or uses one that was closed, leaves the parent's alone."""
    program = """
def work():
    queue.send("x")
    rsmq.close()
    queue.send("y")
print(wait(in_child(work)), queue.send("z")[:0], len(queue.peek()))
rsmq.close()
print(wait(in_child(lambda: queue.send("late"))))
"""
    assert run(server, program) == (
        "ClientClosed: this AsyncRSMQ is closed; create a new one\n[1]  2\n"
        "ClientClosed: this AsyncRSMQ is closed; create a new one\n[1]\n"
    )


def test_message_of_the_parent(server):
    """A message belongs to the process that received it; its receipt does not."""
    program = """
queue.send("x")
message = queue.receive()
print(wait(in_child(message.delete)))
print(wait(in_child(lambda: queue.delete_message(message.receipt))), message.delete())
"""
    refusal, *rest = run(server, program).splitlines()
    assert refusal.startswith("WrongEventLoop: this message was received in another process")
    assert rest == ["[1]", "[0] False"]


def test_stream_and_worker_of_the_parent(server):
    """An iterator begins again in a child; what the parent has claimed stays the parent's."""
    program = """
queue.send_many(["1", "2", "3", "4"])
messages = queue.messages(prefetch=1)
first = next(messages)
def work():
    with next(messages) as message:
        print("child:", message.body, flush=True)
    messages.close()
print(wait(in_child(work)))
with first, next(messages) as second:
    print("parent:", first.body, second.body)
messages.close()
print(*[message.body for message in queue.peek()])
"""
    assert run(server, program) == "child: 3\n[0]\nparent: 1 2\n4\n"


def test_child_leaves_a_block_of_the_parent(server):
    """A child that leaves the block of its parent's worker leaves the worker alone."""
    program = """
with queue.worker(print) as worker:
    pid = os.fork()
    if pid == 0:
        sys.exit(3)
    print(wait(pid), worker.healthy)
rsmq.close()
"""
    assert run(server, program) == "[3] True\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(server, method):
    """Its processes may use a client of the module, and hand back what they hold at their end."""
    program = """
import multiprocessing
import sys
from aiorsmq.sync import RSMQ

rsmq = RSMQ.from_url(sys.argv[1])
queue = rsmq.queue("jobs")

def work():
    messages = queue.messages(prefetch=10, vt=600)
    with next(messages):
        pass
    work.messages = messages  # not closed

if __name__ == "__main__":
    queue.create()
    queue.send_many(map(str, range(20)))
    process = multiprocessing.get_context("METHOD").Process(target=work)
    process.start()
    process.join()
    attributes = queue.attributes()
    print(process.exitcode, attributes.msgs, attributes.hiddenmsgs)
""".replace("METHOD", method)
    path = server.folder / f"program_{method}.py"
    path.write_text(program)
    runner = f"import runpy, sys; sys.argv[0] = {str(path)!r}\n"
    runner += f"runpy.run_path({str(path)!r}, run_name='__main__')"
    assert output_of(runner, server.url) == "0 19 0\n"


def test_embedded_server():
    """Children use their parent's embedded server, which ends with the parent."""
    program = """
queue.send("of the parent")
print(wait(in_child(lambda: queue.send("of the child"))), *[m.body for m in queue.peek()])
print(wait(in_child(lambda: wait(in_child(lambda: queue.send("of its child"))))), len(queue.peek()))
"""
    assert run("embedded://", program) == "[0] of the parent of the child\n[0] 3\n"


def test_embedded_server_that_is_not_there():
    """A child does not start a private server in place of its parent's."""
    program = """
never_used = RSMQ.from_url("embedded://")
print(wait(in_child(never_used.list_queues)))
print(never_used.list_queues())
"""
    refusal, *rest = run("embedded://", program).splitlines()
    assert refusal.startswith("EmbeddedServerError: an embedded:// server belongs to the process")
    assert rest == ["[1]", "set()"]
