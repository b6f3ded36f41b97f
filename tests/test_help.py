"""What `help()`, `inspect.signature` and an editor show of the public names."""

import importlib
import inspect
import pydoc
import re
from inspect import Parameter
from typing import get_type_hints

import aiorsmq
import pytest
from aiorsmq import AsyncRSMQ, Queue, Worker, pyrsmq, sync
from aiorsmq.pyrsmq.commands import COMMANDS

from support import check_help

MODULES = (
    *("aiorsmq", "aiorsmq.sync", "aiorsmq.pyrsmq", "aiorsmq.testing", "aiorsmq.testing.sync"),
    *("aiorsmq.codecs", "aiorsmq.doctor", "aiorsmq.embedded", "aiorsmq.lua", "aiorsmq.models"),
    *("aiorsmq.integrations.service", "aiorsmq.integrations.shutdown"),
)
"""Those that need no web framework; tests/website has the others."""


@pytest.mark.parametrize("name", MODULES)
def test_help_of_a_module(name):
    """It says what the module is, and of each name nothing that is internal."""
    check_help(name)


def test_help_of_the_package():
    """It begins with an example, and says where to read on and which modules there are."""
    text = pydoc.render_doc(aiorsmq, renderer=pydoc.plaintext)
    assert text.index("await jobs.send(") < text.index("https://aiorsmq.github.io/aiorsmq/")
    for name in re.findall(r"^ +- (aiorsmq\.\w+): ", text.partition("Loggers")[0], re.MULTILINE):
        importlib.import_module(name)
    assert aiorsmq.__version__ in text.partition("\nVERSION\n")[2].partition("\n\n")[0]


def described(function):
    """The parameters that a docstring describes, with their descriptions."""
    _, _, text = (inspect.getdoc(function) or "").partition("\nArgs:\n")
    text = re.split(r"\n\n|\n(?=\S)", text)[0]
    entries = re.split(r"^    (?=[*\w])", text, flags=re.MULTILINE)[1:]
    return {name: " ".join(text.split()) for name, _, text in (e.partition(": ") for e in entries)}


@pytest.mark.parametrize(
    "function",
    [
        *(AsyncRSMQ, AsyncRSMQ.worker, Queue.create, Queue.messages, Queue.worker),
        *(sync.RSMQ, sync.RSMQ.worker, sync.Queue.worker),
    ],
    ids=lambda function: f"{function.__module__}.{function.__qualname__}",
)
def test_options_are_described(function):
    """Each option is in the signature by its name, and in the text with its meaning."""
    parameters = inspect.signature(function).parameters
    assert {name for name in parameters if name != "self"} == described(function).keys()


WORKERS = [AsyncRSMQ.worker, sync.Queue.worker, sync.RSMQ.worker]


@pytest.mark.parametrize("function", WORKERS, ids=lambda function: function.__qualname__)
def test_workers_have_the_same_options(function):
    """A worker's options are the same wherever it is made, with the defaults of `Worker`."""

    def options(function, *, of):
        parameters = inspect.signature(function).parameters.values()
        keyword_only = [item for item in parameters if item.kind is Parameter.KEYWORD_ONLY]
        return [(item.name, item.default) for item in keyword_only if item.name in of]

    here = options(Queue.worker, of=inspect.signature(Queue.worker).parameters)
    assert options(function, of=dict(here)) == here
    assert dict(options(Worker, of=dict(here))).items() <= dict(here).items()
    assert {name for name, _ in here} == {
        *get_type_hints(aiorsmq.worker.WorkerOptions),
        *("vt", "create"),
    }
    differ = {"on_event", "when_dead", "handler", "queues"}  # in code without an event loop
    for name, text in described(Queue.worker).items():
        assert described(function)[name] == text or name in differ


@pytest.mark.parametrize(
    ("named", "method"),
    [
        *(("create_queue", "create"), ("ensure_queue", "ensure"), ("delete_queue", "delete")),
        *(("set_queue_attributes", "set_attributes"), ("messages", "messages")),
        *(("receive_message", "receive"), ("pop_message", "pop")),
    ],
)
def test_methods_of_a_named_queue(named, method):
    """RSMQ's own methods have the options and defaults of the queue's, and `qname`."""
    theirs = dict(inspect.signature(getattr(AsyncRSMQ, named)).parameters)
    del theirs["qname"]
    ours = inspect.signature(getattr(Queue, method)).parameters
    assert [*theirs.values()] == [*ours.values()]


def test_clients_have_the_same_options():
    """The client for synchronous code describes its options as the other one does."""
    assert described(sync.RSMQ) == described(AsyncRSMQ)


@pytest.mark.parametrize("name", COMMANDS)
def test_pyrsmq_commands_name_their_parameters(name):
    """PyRSMQ's methods take any keyword; each says which ones it knows."""
    text = inspect.getdoc(getattr(pyrsmq.RedisSMQ, name))
    listed = re.search(r"Takes ([^.]*)\.", text)[1]
    assert set(re.findall(r"`(\w+)`", listed)) == {*COMMANDS[name].parameters}


def test_annotations_can_be_evaluated():
    """Types are text for readers, and can be had as objects by those who inject dependencies."""
    for owner in (AsyncRSMQ, Queue, Worker, sync.RSMQ, sync.Queue, sync.Worker):
        for _, method in inspect.getmembers(owner, inspect.isfunction):
            assert inspect.signature(method, eval_str=True)
