"""What synchronous code does from morning to evening."""

import threading
from datetime import timedelta

import pytest
from aiorsmq import (
    BYTES,
    JSON,
    DeadLetter,
    ExportHeader,
    InvalidParameterValue,
    QueueAlreadyExists,
)
from aiorsmq.sync import RSMQ, Message

from support import make_it_theirs
from sync.programs import eventually, running


def test_life_of_a_message(queue):
    id = queue.send("hello", delay=timedelta(seconds=0))
    message = queue.receive(vt=60)
    assert isinstance(message, Message)
    assert (message.id, message.body, message.raw) == (id, "hello", b"hello")
    assert (message.receive_count, message.queue) == (1, "jobs")
    received_at = message.first_received_at  # in whole milliseconds, unlike `sent_at`
    assert message.sent_at - timedelta(milliseconds=1) < received_at <= message.visible_until
    assert queue.receive() is None
    assert message.extend(120)
    assert message.release()
    (again,) = queue.receive_many(5)
    assert not message.delete()
    assert queue.change_visibility(again.receipt, 0)
    with queue.receive(wait=5) as third:
        assert third.receive_count == 3
    assert queue.attributes().msgs == 0
    assert repr(again).startswith(f"<Message {id} from 'jobs'")
    with pytest.raises(TypeError, match="receipt"):
        again.__reduce__()


def test_block_that_fails(queue):
    """A message whose block raises goes back; the error comes out."""
    queue.send("x")
    with pytest.raises(ZeroDivisionError), queue.receive():
        raise ZeroDivisionError
    assert queue.receive().receive_count == 2


def test_own_methods_of_rsmq(rsmq):
    assert rsmq.create_queue(qname="jobs", vt=20)
    with pytest.raises(QueueAlreadyExists):
        rsmq.create_queue(qname="jobs")
    assert rsmq.list_queues() == {"jobs"}
    assert rsmq.get_queue_attributes(qname="jobs").vt == 20
    assert rsmq.set_queue_attributes(qname="jobs", vt=40).vt == 40
    id = rsmq.send_message(qname="jobs", message="x")
    assert rsmq.receive_message(qname="jobs").id == id
    assert rsmq.change_message_visibility(qname="jobs", id=id, vt=0)
    assert rsmq.delete_message(qname="jobs", id=id)
    assert rsmq.pop_message(qname="jobs") is None
    rsmq.send_message(qname="jobs", message="y")
    with next(rsmq.messages("jobs")) as message:
        assert message.body == "y"
    assert rsmq.delete_queue(qname="jobs")


def test_ensure(rsmq):
    """`ensure` creates a queue, or changes what differs, and tells which."""
    queue = rsmq.queue("jobs")
    assert queue.ensure(vt=20).created
    assert queue.ensure(vt=40).changed == {"vt": (20, 40)}
    assert rsmq.ensure_queue(qname="jobs", vt=40).changed == {}


def test_end_streams(server, rsmq, queue):
    """`end_streams` ends iterations, from any thread; other calls go on."""
    with running(lambda: list(queue.messages())):
        eventually(lambda: server.redis.pubsub_numsub("rsmq:rt:jobs")[0][1])
        rsmq.end_streams()
    assert list(queue.messages()) == []
    queue.send("x")


def test_codecs(rsmq):
    rsmq.create_queue(qname="jobs")
    rsmq.queue("jobs", codec=JSON).send({"a": 1})
    assert rsmq.queue("jobs", codec=BYTES).pop(wait=5).body == b'{"a":1}'


@pytest.mark.parametrize("prefetch", [0, 4])
def test_messages(queue, prefetch):
    """An iteration that is left, by `break` or by dropping it, hands back what it has claimed."""
    queue.send_many([str(number) for number in range(20)])
    bodies = []
    for message in queue.messages(prefetch=prefetch, vt=600):
        with message:
            bodies.append(message.body)
        if len(bodies) == 5:
            break
    eventually(lambda: queue.attributes().hiddenmsgs == 0)
    with queue.messages(prefetch=prefetch, vt=600) as messages:
        for message in messages:
            with message:
                bodies.append(message.body)
            if len(bodies) == 10:
                break
    assert queue.attributes().hiddenmsgs == 0
    messages = queue.messages(prefetch=prefetch, vt=600)
    with next(messages) as message:
        bodies.append(message.body)
    del messages
    eventually(lambda: queue.attributes().hiddenmsgs == 0)
    assert bodies == [str(number) for number in range(11)]
    assert queue.purge() == 9


def test_dead_letters(rsmq, queue):
    dead = rsmq.queue("dead")
    queue.set_attributes(max_receives=1, dead_letter_queue="dead")
    dead.create(exist_ok=True)
    queue.send_many([str(number) for number in range(150)])
    while messages := queue.receive_many(64, vt=0):
        assert messages
    (letter,) = dead.reasons(1)
    assert isinstance(letter, DeadLetter)
    steps = dead.redrive_steps(queue, limit=100)
    assert next(steps) == 64
    assert list(steps)[-1] == 100
    with pytest.warns(RuntimeWarning, match="never awaited or iterated"):
        dead.redrive_steps()
    assert dead.redrive("jobs", where=lambda letter: letter.queue == "jobs") == 50
    assert (queue.attributes().msgs, dead.attributes().msgs) == (150, 0)


def test_moving_and_mending(rsmq, queue):
    """A message is replaced, and messages are purged by what they are and redriven by why they
    died.
    """
    queue.set_attributes(max_receives=1, dead_letter_queue="dead")
    dead = rsmq.queue("dead")
    dead.create(exist_ok=True)
    queue.send("a")
    while queue.receive(vt=0):
        pass
    eventually(lambda: dead.attributes().msgs == 1)
    (group,) = dead.reason_groups()
    assert (group.group, group.count, group.queues) == ("received too often", 1, {"jobs": 1})
    assert dead.redrive(reason="ValueError") == 0
    assert dead.replace(group.example_id, "b", to=queue)
    assert [message.body for message in queue.peek()] == ["b"]
    assert queue.purge(text="a") == 0
    assert queue.purge(text="b", dry_run=True) == queue.purge(text="b") == 1


def test_export_and_import(rsmq, queue):
    """Lines come lazily; those of an import are read in the thread of the caller, a step ahead."""
    queue.send_many([str(number) for number in range(350)])
    other = rsmq.queue("other")
    other.create()
    lines = list(queue.export())
    assert ExportHeader.parse(lines[0]).total == 350
    assert other.import_lines(queue.export(), keep_ids=True, keep_times=True) == 350
    assert list(other.export())[1:] == lines[1:]
    begun = queue.export()
    assert ExportHeader.parse(next(begun)).total == 350
    del begun
    threads = []

    def lazily():
        for line in lines:
            threads.append(threading.get_ident())
            yield line

    steps = other.import_steps(lazily(), skip=0)
    assert (next(steps), len(threads)) == (100, 100)
    assert (list(steps), set(threads)) == ([200, 300, 351], {threading.get_ident()})
    assert other.attributes().msgs == 700
    for refused in (b"line", 1, None):
        with pytest.raises(InvalidParameterValue):
            other.import_lines(refused)
    with pytest.raises(InvalidParameterValue, match="line 2"):
        other.import_lines([lines[1], b"no json"])
    with pytest.raises(ZeroDivisionError):
        other.import_lines(1 // 0 for _ in range(2))
    with pytest.raises(InvalidParameterValue):
        queue.export(after=5)
    with pytest.warns(RuntimeWarning, match="never awaited or iterated"):
        other.import_steps(lines)


def test_server_killed_and_back(own_server):
    """An outage is ridden out by those who wait, as by the asynchronous client."""
    server = own_server("--appendonly", "yes")
    with RSMQ.from_url(server.url, deadline=60, poll_interval=0.1) as rsmq:
        queue = rsmq.queue("jobs")
        queue.create(vt=2)  # a claim whose reply is lost comes back after it
        bodies = []

        def consume():
            for message in queue.messages():
                with message:
                    bodies.append(message.body)
                if len(set(bodies)) == 20:
                    break

        with running(consume):
            for number in range(20):
                if number == 10:
                    server.kill()
                    server.start()
                queue.send(str(number))
        assert sorted(set(map(int, bodies))) == list(range(20))


def test_foreign_queue(server, queue):
    """redis-py's errors come out as they are."""
    make_it_theirs(server, "jobs")
    with pytest.raises(Exception, match="WRONGTYPE"):
        queue.send("x")
    server.redis.flushall()


def test_operations(server, rsmq, queue):
    """What operators read: one message, a search, an audit, the server."""
    id = queue.send("needle")
    assert queue.get(id, max_bytes=3).raw == b"nee"
    found = queue.find(text="needle", state="visible", limit=1)
    assert [message.id for message in found.messages] == [id]
    assert queue.find(after=found.next).messages[0].id == id
    assert queue.audit(repair=True).is_clean
    assert rsmq.server_info().role == "master"


def test_pause(queue):
    """A paused queue hands out nothing until it is resumed; what waits is woken then."""
    assert queue.pause()
    assert not queue.pause()
    queue.send("x")
    assert queue.receive() is None
    received = []
    with running(lambda: received.append(queue.receive(wait=20))):
        assert queue.resume()
    assert [message.body for message in received] == ["x"]
    assert not queue.resume()
