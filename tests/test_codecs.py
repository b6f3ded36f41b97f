"""Bodies in and out."""

import json

import pytest
from aiorsmq import BYTES, JSON, TEXT, InvalidParameterValue


@pytest.mark.parametrize("body", ["", "hello", "grüße 🐇", "\x00", "a" * 1000])
async def test_text(queue, body):
    """A str comes out as it went in."""
    await queue.send(body)
    message = await queue.pop()
    assert (message.body, message.raw) == (body, body.encode())


async def test_bytes_in_text_queue(queue):
    """Bytes are sent as they are; read as text, what is not UTF-8 is U+FFFD, and `raw` has all of it."""
    await queue.send(b"\xff\x00ok")
    message = await queue.pop()
    assert (message.body, message.raw) == ("\ufffd\x00ok", b"\xff\x00ok")


async def test_bytes(rsmq, queue):
    """With BYTES, bodies are bytes; anything with a buffer may be sent."""
    binary = rsmq.queue("jobs", codec=BYTES)
    for body in (bytes(range(256)), bytearray(b"array"), memoryview(b"view")):
        await binary.send(body)
        assert (await binary.pop()).body == bytes(body)


async def test_json(rsmq, queue):
    """With JSON, bodies are what JSON can say; Node reads them as JSON.parse of the text."""
    typed = rsmq.queue("jobs", codec=JSON)
    body = {"n": 1, "text": "grüße 🐇", "list": [None, True, 1.5]}
    await typed.send(body)
    message = await typed.receive()
    assert message.body == body
    assert json.loads(message.raw) == body
    assert "grüße 🐇".encode() in message.raw
    await message.delete()


@pytest.mark.parametrize(("codec", "body"), [(TEXT, 1), (BYTES, "text"), (JSON, object()), (JSON, float("nan"))])
async def test_cannot_be_encoded(rsmq, queue, codec, body):
    """What the codec cannot encode is refused before anything is sent."""
    with pytest.raises(InvalidParameterValue):
        await rsmq.queue("jobs", codec=codec).send(body)
    assert (await queue.attributes()).totalsent == 0


async def test_your_own(rsmq, queue):
    """Any object with `encode` and `decode` is a codec."""

    class Upper:
        def encode(self, body):
            return body.upper().encode()

        def decode(self, raw):
            return raw.decode().lower()

    own = rsmq.queue("jobs", codec=Upper())
    await own.send("Hello")
    message = await own.pop()
    assert (message.raw, message.body) == (b"HELLO", "hello")


async def test_cannot_be_decoded(rsmq, queue, caplog):
    """What the codec cannot decode stays in the queue, hidden for its lease; the stream goes on, the log says so."""
    await queue.send_many(["not json, and s3cret", "1"])
    async for message in rsmq.queue("jobs", codec=JSON).messages():
        assert message.body == 1
        await message.delete()
        break
    attributes = await queue.attributes()
    assert (attributes.msgs, attributes.hiddenmsgs) == (1, 1)
    assert "cannot be decoded" in caplog.text
    assert "s3cret" not in caplog.text


async def test_popped_and_cannot_be_decoded(rsmq, queue):
    """What is popped and cannot be decoded is put back, hidden for the queue's vt."""
    await queue.send("not json")
    assert await rsmq.queue("jobs", codec=JSON).pop() is None
    while not (await queue.attributes()).msgs:
        pass
    (message,) = await queue.peek()
    assert (message.body, message.receive_count) == ("not json", 1)
    assert (message.visible_until - message.sent_at).total_seconds() > 25
