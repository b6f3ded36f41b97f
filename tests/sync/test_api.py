"""`aiorsmq.sync` has the API of `aiorsmq`, without await."""

import inspect
import re
from typing import get_type_hints

import aiorsmq
import pytest
from aiorsmq import sync

PAIRS = {
    aiorsmq.AsyncRSMQ: sync.RSMQ,
    aiorsmq.Queue: sync.Queue,
    aiorsmq.Message: sync.Message,
    aiorsmq.Messages: sync.Messages,
    aiorsmq.Announcements: sync.Announcements,
    aiorsmq.Worker: sync.Worker,
}
NAMES = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
}
SPECIAL = {*NAMES, "__copy__", "__reduce__", "__repr__"}
NOT_SYNCHRONOUS = {
    (aiorsmq.AsyncRSMQ, "embedded_server"),  # its methods are for coroutines
    (aiorsmq.Queue, "send_as"),  # for AsyncRSMQ
    (aiorsmq.Messages, "end"),  # for AsyncRSMQ
    (aiorsmq.Announcements, "end"),  # likewise
}
RESULTS = {(aiorsmq.Queue, "redrive"): "int", (aiorsmq.Queue, "import_lines"): "int"}
"""Where the result is not the awaited one."""

WORDS = {
    "async for": "for",
    "is cancelled": "is interrupted",
    "been cancelled": "been interrupted",
    "a task": "a thread",
}
OPTIONS = (aiorsmq.worker.WorkerOptions, sync.WorkerOptions)


def members(cls):
    """The names of a class and of its bases in this package."""
    ours = [base for base in cls.__mro__ if base.__module__.startswith("aiorsmq")]
    return list(dict.fromkeys(name for base in ours for name in vars(base)))


MEMBERS = [
    (cls, name)
    for cls in PAIRS
    for name in members(cls)
    if (not name.startswith("_") or name in SPECIAL) and (cls, name) not in NOT_SYNCHRONOUS
]


def synchronous(annotation):
    """How an annotation reads without await."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(r"collections\.abc\.|typing\.|aiorsmq\.(\w+\.)*|~|['\"]", "", text)
    text = re.sub(r"redis\.asyncio\.client\.", "", text)
    text = re.sub(r" \| AsyncIterable\[[^]]*\]", "", text)
    text = re.sub(r"\bAsync(Iterator|Generator)\b", r"\1", text)
    text = re.sub(r"Awaitable\[(.*)\]$", r"\1", text)
    return text.replace("AsyncRSMQ", "RSMQ")


def shape(cls, name, function):
    signature = inspect.signature(function)
    parameters = [
        (parameter.name, parameter.kind, repr(parameter.default), synchronous(parameter.annotation))
        for parameter in signature.parameters.values()
    ]
    result = RESULTS.get((cls, name)) or synchronous(signature.return_annotation)
    return parameters, result


@pytest.mark.parametrize(
    ("cls", "name"), MEMBERS, ids=lambda value: getattr(value, "__name__", value)
)
def test_member(cls, name):
    """Each public member is there, with its parameters, defaults, types and summary."""
    other = PAIRS[cls]
    theirs = inspect.getattr_static(other, NAMES.get(name, name))
    ours = inspect.getattr_static(cls, name)
    assert type(theirs) is type(ours)
    if isinstance(ours, property):
        ours, theirs = ours.fget, theirs.fget
    elif isinstance(ours, classmethod):
        ours, theirs = ours.__func__, theirs.__func__
    assert not inspect.iscoroutinefunction(theirs)
    assert shape(other, name, theirs) == shape(cls, name, ours)
    if ours.__doc__:
        assert summary(theirs)
        assert summary(theirs) == summary(ours) or (cls, name) in RESULTS


def summary(function):
    """The first sentence of its documentation, as it reads without await."""
    text = re.split(r"(?<=\.)\s|\n\n", inspect.getdoc(function) or "")[0]
    text = re.sub(r"\s+", " ", text).removesuffix(".")
    for asynchronous, synchronous in WORDS.items():
        text = text.replace(asynchronous, synchronous)
    return text


def test_nothing_else():
    """Nothing is there that the other API lacks, except the calls that tell their progress."""
    more = {
        (theirs.__name__, name)
        for ours, theirs in PAIRS.items()
        for name in members(theirs)
        if not name.startswith("_") and name not in {*members(ours), *NAMES.values()}
    }
    assert more == {("Queue", "redrive_steps"), ("Queue", "import_steps")}


def test_options():
    """Workers have the same options."""
    ours, theirs = ([*get_type_hints(options).items()] for options in OPTIONS)
    assert [(name, synchronous(type)) for name, type in theirs] == [
        (name, synchronous(type)) for name, type in ours
    ]


def test_names():
    """The package has the names of its classes, and no other."""
    assert sorted(sync.__all__) == sorted(
        [*(cls.__name__ for cls in PAIRS.values()), "NotConfirmed", "WorkerOptions"]
    )
