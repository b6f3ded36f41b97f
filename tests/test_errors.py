"""What the library raises."""

import inspect
import re

import aiorsmq
import pytest
from aiorsmq import errors


def test_the_tree():
    """The tree that is drawn at the top of the module is the tree of the classes."""
    drawn = dict(
        re.findall(r"^(?:├── |└── |)(\w+)(?: +\(also an? (\w+)(?:, redis-py's)?\))?$", errors.__doc__, re.MULTILINE)
    )
    classes = {name: getattr(errors, name) for name in errors.__all__}
    assert drawn.keys() == classes.keys()
    for name, cls in classes.items():
        assert issubclass(cls, errors.RedisSMQException)
        others = [base.__name__ for base in cls.__mro__ if base.__module__ != errors.__name__]
        assert others[0] == (drawn[name] or "Exception")


def test_all_are_exported():
    """Every error is a name of the package."""
    public = [name for name, cls in inspect.getmembers(errors, inspect.isclass) if not name.startswith("_")]
    assert set(public) == set(errors.__all__) <= set(aiorsmq.__all__)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.InvalidParameterValue("vt", -1, "must be 0 or more"), "vt=-1: must be 0 or more"),
        (errors.QueueDoesNotExist("q"), "queue 'q' does not exist"),
        (errors.QueueAlreadyExists("q"), "queue 'q' already exists"),
        (errors.NoMessageInQueue("q"), "queue 'q' has no visible message"),
        (errors.NoDeadLetterQueue("q"), "queue 'q' has no dead-letter queue"),
        (
            errors.NotPermitted("q", "send", "HSET", "+hset"),
            "this user may not run script send for queue 'q': the server refuses the command HSET; grant +hset",
        ),
        (
            errors.NotPermitted("q", "peek", None, "~rsmq:q"),
            "this user may not run script peek for queue 'q': the server refuses one of its keys; grant ~rsmq:q",
        ),
        (errors.MessageTooLong("q", 9, 5), "a message of 9 bytes is over the maxsize of queue 'q', 5 bytes"),
    ],
)
def test_text(error, text):
    """An error says what happened, with the facts."""
    assert str(error) == text


def test_long_values_are_cut():
    """A long value is not repeated in full."""
    assert len(str(errors.InvalidParameterValue("message", "x" * 100_000, "must be bytes"))) < 100
