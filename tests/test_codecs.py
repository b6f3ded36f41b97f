"""Bodies in and out."""

import json
import logging
import re
import subprocess
import sys
import traceback
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import pydantic
import pytest
from aiorsmq import (
    BYTES,
    JSON,
    TEXT,
    ExtraNotInstalled,
    InvalidParameterValue,
    MsgspecCodec,
    PydanticCodec,
)

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
    """Bytes are sent as they are; read as text, what is not UTF-8 is U+FFFD, and `raw` has all of
    it.
    """
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


def nested(depth, inner=b""):
    return b"[" * depth + inner + b"]" * depth


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (rb'"\ud83d"', "\ud83d"),  # as JSON.stringify writes half a pair
        (rb'{"\udc07\\":"\\\ud83d"}', {"\udc07\\": "\\\ud83d"}),
        (rb'["\ud83d","\udc07"]', ["\ud83d", "\udc07"]),
        (rb'"\ud83d\udc07"', "🐇"),
        (b'\xef\xbb\xbf"a"', "a"),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b"1.7976931348623157e308", 1.7976931348623157e308),
        (b"5e-324", 5e-324),
        (b"-0.0", -0.0),
        (b"9" * 4300, 10**4300 - 1),
        (nested(500), json.loads(nested(500))),
        (b'["' + nested(600, rb"\"") + b'"]', [nested(600, b'"').decode()]),
        (b"[" + b",".join([nested(300), nested(300)]) + b"]", [json.loads(nested(300))] * 2),
    ],
    ids=lambda value: ascii(value)[:10] if isinstance(value, bytes) else "",
)
def test_json_reads_and_writes_alike(raw, body):
    """What JSON reads can be sent, and is read as it was."""
    assert JSON.decode(raw) == body
    assert JSON.decode(JSON.encode(body)) == body


@pytest.mark.parametrize(
    "raw",
    [
        *(b"NaN", b"[Infinity]", b'{"a":-Infinity}', b"1e999", b"[-1e999]", b"1" * 400 + b".0"),
        *(b"9" * 4301, nested(501), nested(100_000), b'{"a":' * 501 + b"1" + b"}" * 501),
        *(b'"\xed\xa0\xbd"', b'"\xff"', '"a"'.encode("utf-16"), b"", b'"\x00"'),
    ],
    ids=lambda raw: f"{raw[:10]}-{len(raw)}",
)
def test_json_does_not_read_what_it_could_not_write(raw):
    """What could not be sent, or is not JSON in UTF-8, is not read either: a ValueError."""
    with pytest.raises(ValueError):
        JSON.decode(raw)


@pytest.mark.parametrize(
    ("codec", "body"),
    [
        (TEXT, 1),
        (TEXT, "s3cret\ud83d"),
        (BYTES, "text"),
        (JSON, object()),
        *((JSON, body) for body in (float("nan"), [float("inf")], {float("nan"): 1}, 10**4300)),
        (JSON, "\ud83d\udc07"),  # would be read as one character
        *((JSON, json.loads(nested(depth))) for depth in (501, 900)),
        *((codec(str | None), "s3cret\ud83d") for codec in TYPED),
        *((codec(dict[str, int]), {"s3cret\ud83d": 1}) for codec in TYPED),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_cannot_be_encoded(rsmq, queue, codec, body):
    """What the codec cannot encode is refused before anything is sent."""
    with pytest.raises(InvalidParameterValue) as refused:
        await rsmq.queue("jobs", codec=codec).send(body)
    assert CANARY not in str(refused.value)
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
    """What the codec cannot decode stays in the queue, hidden for its lease; the stream goes on,
    and it is logged.
    """
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
        (
            PydanticCodec,
            Invoice,
            Invoice(item="Grüße 🐇"),
            '{"item":"Grüße 🐇","count":1,"notes":{}}',
        ),
        *((codec, Parcel, Parcel("tea"), '{"item":"tea","count":1}') for codec in TYPED),
        *((codec, list[int], [1, 2], "[1,2]") for codec in TYPED),
        *((codec, Parcel | None, None, "null") for codec in TYPED),
        *((codec, dict[str, float] | str, {"a": 1.5}, '{"a":1.5}') for codec in TYPED),
        *((codec, Literal["a", 1], "a", '"a"') for codec in TYPED),
        *((codec, float, 1, None) for codec in TYPED),
    ],
)
async def test_typed(rsmq, queue, codec, type, body, text):
    """With MsgspecCodec and PydanticCodec bodies are of one type, stored as compact JSON text in
    UTF-8.
    """
    typed = rsmq.queue("jobs", codec=codec(type))
    await typed.send(body)
    message = await typed.pop()
    assert message.body == body
    assert json.loads(message.raw) == json.loads(text or "1")
    assert text is None or message.raw == text.encode()


@pytest.mark.parametrize(("codec", "type"), [(MsgspecCodec, Order), (PydanticCodec, Invoice)])
@pytest.mark.parametrize("item", ["tea", "Zoë 🐇", 'a "quote"\n\t\\/ \x00\x7f\u2028', ""])
def test_typed_reads_json_text(codec, type, item):
    """They read any JSON text: with spaces, all but ASCII escaped, fields in any order, more than
    they know.
    """
    body = {"notes": {"a": 1}, "item": item, "more": [None, True]}
    texts = {
        json.dumps(body),
        json.dumps(body, indent=2),
        json.dumps(body, ensure_ascii=False, separators=(",", ":")),
    }
    for text in texts:
        assert codec(type).decode(f" {text}\n".encode()) == type(item=item, notes={"a": 1})


class Measures(msgspec.Struct):
    degrees: float | None = None
    more: dict[str, list[float | None]] = {}


class MeasuresModel(pydantic.BaseModel):
    degrees: float | None = None
    more: dict[str, list[float | None]] = {}


class InOwnWords(MeasuresModel):
    model_config = pydantic.ConfigDict(ser_json_inf_nan="strings")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("codec", "type"), [(MsgspecCodec, Measures), (PydanticCodec, MeasuresModel)]
)
def test_typed_infinity(codec, type, number):
    """NaN and infinities, which would be written as null, are refused also where null can be
    read.
    """
    for body in (type(degrees=number), type(more={"a": [None, number]})):
        with pytest.raises(ValueError, match="JSON cannot represent"):
            codec(type).encode(body)
    assert codec(type).decode(codec(type).encode(type(more={"a": [None, 1.5]}))) == type(
        more={"a": [None, 1.5]}
    )
    with pytest.raises(ValueError):
        codec(float | None).encode(number)


NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1E+999",
    "1.e400",
    '"nan"',
    '" -inf"',
    '"+Infinity"',
    "1" * 400,
]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    ("codec", "type"), [(MsgspecCodec, Measures), (PydanticCodec, MeasuresModel)]
)
def test_typed_reads_no_infinity(codec, type, number):
    """What is no finite number, however it is written, is not read as a number either."""
    for text in (f'{{"degrees":{number}}}', f'{{"more":{{"a":[null,{number}]}}}}'):
        with pytest.raises(ValueError):
            codec(type).decode(text.encode())


@pytest.mark.parametrize("codec", TYPED)
def test_typed_depth(codec):
    """What a typed codec reads it writes, however deep; more than 500 deep it reads nothing."""
    any_codec = codec(Any)
    for depth in range(1, 501):
        try:
            body = any_codec.decode(nested(depth))
        except ValueError:
            break
        assert any_codec.encode(body) == nested(depth)
    assert depth > 100
    with pytest.raises(ValueError):
        any_codec.decode(nested(501))


def test_typed_infinity_in_own_words():
    """A pydantic type that has a way to write NaN keeps it."""
    codec = PydanticCodec(InOwnWords)
    raw = codec.encode(InOwnWords(degrees=float("inf"), more={"a": [None]}))
    assert raw == b'{"degrees":"Infinity","more":{"a":[null]}}'
    assert codec.decode(raw).degrees == float("inf")


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
        (
            MsgspecCodec(Order),
            Order(CANARY, CANARY),
            "decoded as Order: Expected `int`, got `str` - at `$.count`",
        ),
        (
            MsgspecCodec(Order),
            Order(CANARY, notes={CANARY: CANARY}),
            "decoded as Order: Expected `int`, got `str` - at `$.notes[...]`",
        ),
        (MsgspecCodec(Order), Order(CANARY, notes={(CANARY,): 1}), "encoded as JSON"),
        (
            MsgspecCodec(Order | None),
            {"other": CANARY},
            "Order | None: Object missing required field `item`",
        ),
        (MsgspecCodec(list[int]), [1, CANARY], "Expected `int`, got `str`"),
        (MsgspecCodec(float), float("nan"), "Expected `float`, got `null`"),
        (MsgspecCodec(Strict), Strict(CANARY), "decoded as Strict: ValidationError"),
        (MsgspecCodec(Strict), strict, "decoded as Strict: ValidationError"),
        (PydanticCodec(Invoice), {"item": CANARY}, "must be an instance of Invoice"),
        (
            PydanticCodec(Invoice),
            StrictModel.model_construct(text=CANARY),
            "must be an instance of Invoice",
        ),
        (PydanticCodec(Parcel), Invoice(item=CANARY), "must be an instance of Parcel"),
        (
            PydanticCodec(Invoice),
            Invoice.model_construct(item=[CANARY]),
            "decoded as Invoice: string_type",
        ),
        (
            PydanticCodec(Invoice),
            Invoice.model_construct(item=CANARY, notes={CANARY: CANARY}),
            "int_parsing",
        ),
        (
            PydanticCodec(Invoice),
            Invoice.model_construct(item=CANARY, notes={CANARY: object()}),
            "encoded as JSON",
        ),
        (PydanticCodec(list[int]), [1, CANARY], "decoded as list[int]: int_parsing"),
        (PydanticCodec(StrictModel), StrictModel.model_construct(item=CANARY), "literal_error"),
        (PydanticCodec(StrictModel), StrictModel.model_construct(text=CANARY), "value_error"),
    ],
)
async def test_typed_cannot_be_read_back(rsmq, queue, codec, body, reason):
    """What the codec could not read back, or is of another class, is refused before it is sent; no
    error quotes it.
    """
    for call in (
        rsmq.queue("jobs", codec=codec).send(body),
        rsmq.queue("jobs", codec=codec).send_many([body]),
    ):
        with pytest.raises(InvalidParameterValue, match=re.escape(reason)) as refused:
            await call
        error = refused.value
        assert error.parameter in ("body", "bodies")
        while error is not None:
            assert CANARY not in f"{error} {error!r}"
            error = error.__cause__ or error.__context__
        assert CANARY not in "".join(traceback.format_exception(refused.value))
    assert (await queue.attributes()).totalsent == 0


@pytest.mark.parametrize(
    "codec", [MsgspecCodec(Order), PydanticCodec(Invoice), MsgspecCodec(Strict)]
)
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
    """Whatever they cannot read is a ValueError that does not quote it; in a queue it stays, and it
    is logged.
    """
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


@pytest.mark.parametrize(
    ("codec", "extra"), [(MsgspecCodec, "msgspec"), (PydanticCodec, "pydantic")]
)
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
