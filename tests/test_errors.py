"""What the library raises."""

import copy
import inspect
import pickle
import re

import aiorsmq
import pytest
from aiorsmq import Reject, Retry, errors


def test_the_tree():
    """The tree that is drawn at the top of the module is the tree of the classes."""
    drawn = dict(
        re.findall(
            r"^(?:├── |└── |)(\w+)(?: +\(also an? (\w+)(?:, redis-py's)?\))?$",
            errors.__doc__,
            re.MULTILINE,
        )
    )
    classes = {name: getattr(errors, name) for name in errors.__all__}
    assert drawn.keys() == classes.keys()
    for name, cls in classes.items():
        assert issubclass(cls, errors.RedisSMQException)
        others = [base.__name__ for base in cls.__mro__ if base.__module__ != errors.__name__]
        assert others[0] == (drawn[name] or "Exception")


def test_all_are_exported():
    """Every error is a name of the package."""
    public = [
        name
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, Exception) and not name.startswith("_")
    ]
    assert set(public) == set(errors.__all__) <= set(aiorsmq.__all__)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.InvalidParameterValue("vt", -1, "must be 0 or more"), "vt=-1: must be 0 or more"),
        (errors.QueueDoesNotExist("q"), "queue 'q' does not exist; create it with Queue.ensure()"),
        (errors.QueueAlreadyExists("q"), "queue 'q' already exists"),
        (errors.NoMessageInQueue("q"), "queue 'q' has no visible message"),
        (errors.NoDeadLetterQueue("q"), "queue 'q' has no dead-letter queue"),
        (
            errors.NotPermitted("q", "send", "HSET", "+hset"),
            (
                "no permission to run script 'send' for queue 'q': "
                "the server denies command HSET; grant +hset"
            ),
        ),
        (
            errors.NotPermitted("q", "peek", None, "~rsmq:q"),
            (
                "no permission to run script 'peek' for queue 'q': "
                "the server denies one of its keys; grant ~rsmq:q"
            ),
        ),
        (
            errors.MessageTooLong("q", 9, 5),
            (
                "message too long for queue 'q': 9 bytes, maxsize is 5; "
                "Queue.set_attributes() can raise it"
            ),
        ),
    ],
)
def test_text(error, text):
    """An error says what happened, with the facts."""
    assert str(error) == text


def test_long_values_are_cut():
    """A long value is not repeated in full."""
    assert len(str(errors.InvalidParameterValue("message", "x" * 100_000, "must be bytes"))) < 100


@pytest.mark.parametrize("value", ["redis://:secret@host", "secret@host", ["redis://:secret@host"]])
def test_urls_are_not_shown(value):
    """Whatever the parameter is called, what looks like a URL or like its user and host is not
    repeated.
    """
    error = errors.InvalidParameterValue("qname", value, "must be a name")
    assert "secret" not in f"{error} {error!r}"
    assert error.value is value


SAMPLES = {
    "RedisSMQException": ("something",),
    "InvalidParameterValue": ("vt", -1, "must be 0 or more"),
    "MessageTooLong": ("jobs", 9, 5),
    "NotConfirmed": (["an-id"], 1, 2),
    "NotPermitted": ("jobs", "send", "HSET", "+hset"),
    "EmbeddedServerError": ("it did not start",),
    "ExtraNotInstalled": ("MsgspecCodec", "msgspec"),
    "UnsupportedServer": ("it has no scripts",),
    "ClientClosed": (),
    "WrongEventLoop": ("another event loop",),
    "Retry": (5, "busy"),
    "Reject": ("hopeless",),
}


@pytest.mark.parametrize(
    "cls", [*(getattr(errors, name) for name in errors.__all__), Retry, Reject]
)
@pytest.mark.parametrize(
    "passed_on",
    [
        *(lambda e, p=p: pickle.loads(pickle.dumps(e, p)) for p in range(6)),
        copy.copy,
        copy.deepcopy,
    ],
)
def test_passed_on(cls, passed_on):
    """Every error crosses to another process, and survives copying, with all its facts."""
    error = cls(*SAMPLES.get(cls.__name__, ("jobs",)))
    error.__notes__ = ["while testing"]
    twin = passed_on(error)
    assert type(twin) is cls
    assert (str(twin), repr(twin), twin.args, vars(twin)) == (
        str(error),
        repr(error),
        error.args,
        vars(error),
    )


@pytest.mark.parametrize(
    "value",
    [lambda: None, object, (n for n in "x"), open],
    ids=["lambda", "type", "generator", "open"],
)
def test_values_that_cannot_be_passed_on(value):
    """A refused value that cannot be pickled is replaced by what the error shows of it."""
    error = errors.InvalidParameterValue("handler", value, "must be something else")
    twin = pickle.loads(pickle.dumps(error))
    assert (twin.parameter, twin.reason) == (error.parameter, error.reason)
    if twin.value is not value:
        assert twin.value == str(error).partition("=")[2].partition(": must")[0]
