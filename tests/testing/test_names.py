"""What `import aiorsmq` gives, and what it costs those who use nothing of it."""

import pickle
import subprocess
import sys

import aiorsmq
import pytest


def modules_after(statement):
    """The modules that an interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys; print(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", code], text=True).split())


@pytest.mark.parametrize("name", ["aiorsmq", "aiorsmq.testing"])
def test_an_import_alone_loads_nothing(name):
    """`import aiorsmq` loads no dependency and none of its own modules before a name is used."""
    loaded = modules_after(f"import {name}")
    assert loaded.isdisjoint({"redis", "hiredis", "anyio", "asyncio"})
    expected = {"aiorsmq", "aiorsmq._lazy", name}
    assert {module for module in loaded if module.split(".")[0] == "aiorsmq"} == expected
    assert "redis" in modules_after("import aiorsmq; aiorsmq.AsyncRSMQ")  # the check can fail


def test_star():
    """`from aiorsmq import *` gives all public names."""
    names = {}
    exec("from aiorsmq import *", names)
    assert set(aiorsmq.__all__) < set(names)
    assert set(aiorsmq.__all__) < set(dir(aiorsmq))


def test_a_name_is_looked_up_once():
    """A name that was used is an ordinary attribute of the package from then on."""
    assert aiorsmq.AsyncRSMQ is vars(aiorsmq)["AsyncRSMQ"]


def test_submodules_are_attributes():
    """`aiorsmq.errors` needs no import of its own."""
    code = "import aiorsmq; print(aiorsmq.errors.__name__)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "aiorsmq.errors\n"


def test_no_such_name():
    """A name that does not exist is an AttributeError, or an ImportError in an import."""
    with pytest.raises(AttributeError, match="module 'aiorsmq' has no attribute 'AsyncRMSQ'"):
        _ = aiorsmq.AsyncRMSQ
    with pytest.raises(ImportError, match="cannot import name 'AsyncRMSQ' from 'aiorsmq'"):
        from aiorsmq import AsyncRMSQ  # noqa: F401, PLC0415


def test_a_pickle_loads_the_class():
    """A pickled value of a public class can be loaded where nothing of the package was used yet."""
    receipt = aiorsmq.Receipt("id", 1, None)
    code = f"import aiorsmq, pickle; print(pickle.loads({pickle.dumps(receipt)!r}))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == f"{receipt}\n"
