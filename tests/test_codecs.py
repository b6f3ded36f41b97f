"""Bodies in and out."""

import json
import logging
import re
import subprocess
import sys
import traceback
from dataclasses import dataclass
from typing import Literal

import msgspec
import pydantic
import pytest
from aiorsmq import BYTES, JSON, TEXT, ExtraNotInstalled, InvalidParameterValue, MsgspecCodec, PydanticCodec

TYPED = [MsgspecCodec, PydanticCodec]
CANARY = "s3cret"


class Order(msgspec.Struct, frozen=True):
    item: str
    count: int = 1
    notes: dict[str, int] = {}


class Invoice(pydantic.BaseModel, frozen=True):
    item: str
    count: int = 1
    notes: dict[str, int] = {}


@dataclass(frozen=True)
class Parcel:
    item: str
    count: int = 1


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


@pytest.mark.parametrize(
    ("codec", "type", "body", "text"),
    [
        (MsgspecCodec, Order, Order("Grüße 🐇", 2), '{"item":"Grüße 🐇","count":2,"notes":{}}'),
        (PydanticCodec, Invoice, Invoice(item="Grüße 🐇"), '{"item":"Grüße 🐇","count":1,"notes":{}}'),
        *((codec, Parcel, Parcel("tea"), '{"item":"tea","count":1}') for codec in TYPED),
        *((codec, list[int], [1, 2], "[1,2]") for codec in TYPED),
        *((codec, Parcel | None, None, "null") for codec in TYPED),
        *((codec, dict[str, float] | str, {"a": 1.5}, '{"a":1.5}') for codec in TYPED),
        *((codec, Literal["a", 1], "a", '"a"') for codec in TYPED),
        *((codec, float, 1, None) for codec in TYPED),
    ],
)
async def test_typed(rsmq, queue, codec, type, body, text):
    """With MsgspecCodec and PydanticCodec bodies are of one type, stored as compact JSON text in UTF-8."""
    typed = rsmq.queue("jobs", codec=codec(type))
    await typed.send(body)
    message = await typed.pop()
    assert message.body == body
    assert json.loads(message.raw) == json.loads(text or "1")
    assert text is None or message.raw == text.encode()


@pytest.mark.parametrize(("codec", "type"), [(MsgspecCodec, Order), (PydanticCodec, Invoice)])
@pytest.mark.parametrize("item", ["tea", "Zoë 🐇", 'a "quote"\n\t\\/ \x00\x7f\u2028', ""])
def test_typed_reads_json_text(codec, type, item):
    """They read any JSON text: with spaces, all but ASCII escaped, fields in any order, more than they know."""
    body = {"notes": {"a": 1}, "item": item, "more": [None, True]}
    texts = {json.dumps(body), json.dumps(body, indent=2), json.dumps(body, ensure_ascii=False, separators=(",", ":"))}
    for text in texts:
        assert codec(type).decode(f" {text}\n".encode()) == type(item=item, notes={"a": 1})


class Reading(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    degrees: float = pydantic.Field(alias="degreesCelsius")

    @pydantic.computed_field
    @property
    def fahrenheit(self) -> float:
        return self.degrees * 1.8 + 32


def test_typed_as_others_name_it():
    """A pydantic model is written by its aliases and without computed fields: as it is read."""
    codec = PydanticCodec(Reading)
    raw = codec.encode(Reading(degreesCelsius=20))
    assert raw == b'{"degreesCelsius":20.0}'
    assert codec.decode(raw) == Reading(degreesCelsius=20)


class Strict(msgspec.Struct):
    """Quotes what it is given, in an error of its own."""

    item: Literal["a", "b"] = "a"
    text: str = ""

    def __post_init__(self):
        if CANARY in self.text:
            raise ValueError(f"Expected anything but {self.text}")


class StrictModel(pydantic.BaseModel):
    item: Literal["a", "b"] = "a"
    text: str = ""

    @pydantic.field_validator("text")
    @classmethod
    def is_right(cls, text):
        if CANARY in text:
            raise ValueError(f"Expected anything but {text}")
        return text


strict = Strict()
strict.text = CANARY


@pytest.mark.parametrize(
    ("codec", "body", "reason"),
    [
        (MsgspecCodec(Order), {"item": CANARY}, "must be an instance of Order"),
        (MsgspecCodec(Order), Strict(CANARY), "must be an instance of Order"),
        (MsgspecCodec(Order), CANARY, "must be an instance of Order"),
        (MsgspecCodec(Order), Order(CANARY, CANARY), "read as Order: Expected `int`, got `str` - at `$.count`"),
        (
            MsgspecCodec(Order),
            Order(CANARY, notes={CANARY: CANARY}),
            "read as Order: Expected `int`, got `str` - at `$.notes[...]`",
        ),
        (MsgspecCodec(Order), Order(CANARY, notes={(CANARY,): 1}), "written as JSON"),
        (MsgspecCodec(Order | None), {"other": CANARY}, "Order | None: Object missing required field `item`"),
        (MsgspecCodec(list[int]), [1, CANARY], "Expected `int`, got `str`"),
        (MsgspecCodec(float), float("nan"), "Expected `float`, got `null`"),
        (MsgspecCodec(Strict), Strict(CANARY), "read as Strict: ValidationError"),
        (MsgspecCodec(Strict), strict, "read as Strict: ValidationError"),
        (PydanticCodec(Invoice), {"item": CANARY}, "must be an instance of Invoice"),
        (PydanticCodec(Invoice), StrictModel.model_construct(text=CANARY), "must be an instance of Invoice"),
        (PydanticCodec(Parcel), Invoice(item=CANARY), "must be an instance of Parcel"),
        (PydanticCodec(Invoice), Invoice.model_construct(item=[CANARY]), "read as Invoice: string_type"),
        (PydanticCodec(Invoice), Invoice.model_construct(item=CANARY, notes={CANARY: CANARY}), "int_parsing"),
        (PydanticCodec(Invoice), Invoice.model_construct(item=CANARY, notes={CANARY: object()}), "written as JSON"),
        (PydanticCodec(list[int]), [1, CANARY], "read as list[int]: int_parsing"),
        (PydanticCodec(StrictModel), StrictModel.model_construct(item=CANARY), "literal_error"),
        (PydanticCodec(StrictModel), StrictModel.model_construct(text=CANARY), "value_error"),
    ],
)
async def test_typed_cannot_be_read_back(rsmq, queue, codec, body, reason):
    """What the codec could not read back, or is of another class, is refused before it is sent; no error quotes it."""
    for call in (rsmq.queue("jobs", codec=codec).send(body), rsmq.queue("jobs", codec=codec).send_many([body])):
        with pytest.raises(InvalidParameterValue, match=re.escape(reason)) as refused:
            await call
        error = refused.value
        assert error.parameter == "message"
        while error is not None:
            assert CANARY not in f"{error} {error!r}"
            error = error.__cause__ or error.__context__
        assert CANARY not in "".join(traceback.format_exception(refused.value))
    assert (await queue.attributes()).totalsent == 0


@pytest.mark.parametrize("codec", [MsgspecCodec(Order), PydanticCodec(Invoice), MsgspecCodec(Strict)])
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"s3cret",
        b'{"item": "s3cret", "item": }',
        b'{"item": ["s3cret"], "text": 1}',
        b'{"item": "s3cret\xff"}',
        b'{"item": "s3cret\\ud800"}',
        b'{"item": "tea", "count": "s3cret", "text": "s3cret"}',
        b'{"item": "a", "notes": {"s3cret": "s3cret"}, "text": "s3cret"}',
        b"[" * 100_000,
        b'{"x":' * 100_000,
    ],
)
async def test_typed_cannot_be_decoded(rsmq, queue, codec, raw, caplog):
    """Whatever they cannot read is a ValueError that does not quote it; in a queue it stays, and the log says so."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ValueError) as unread:
        codec.decode(raw)
    assert type(unread.value) is ValueError
    assert CANARY not in str(unread.value)
    assert unread.value.__cause__ is unread.value.__context__ is None
    await queue.set_attributes(maxsize=-1)
    await queue.send(raw)
    assert await rsmq.queue("jobs", codec=codec).receive() is None
    assert (await queue.attributes()).hiddenmsgs == 1
    assert "cannot be decoded" in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize(("codec", "extra"), [(MsgspecCodec, "msgspec"), (PydanticCodec, "pydantic")])
def test_extra_not_installed(monkeypatch, codec, extra):
    """Without its package a codec cannot be made, and the error says which extra brings it."""
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(ExtraNotInstalled, match=rf"aiorsmq-realtime\[{extra}\]") as missing:
        codec(Parcel)
    assert missing.value.extra == extra


@pytest.mark.parametrize("codec", TYPED)
@pytest.mark.parametrize("type", [1, object(), Parcel("tea"), list[object()]])
def test_no_type(codec, type):
    """What its package does not know as a type is refused when the codec is made."""
    with pytest.raises(InvalidParameterValue, match="must be a type that") as refused:
        codec(type)
    assert refused.value.value is type


def test_import_is_light():
    """Importing aiorsmq imports neither msgspec nor pydantic, installed or not."""
    program = "import sys, aiorsmq; print({'msgspec', 'pydantic'} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"
