"""Whether each breakage can be made. Only `controls.py` shows that a test notices it."""

from pathlib import Path

import aiorsmq
import pytest

from chaos.breakages import BREAKAGES, Breakage, DoesNotFit, Edit, LuaEdit, StringEdit, broken_files

SOURCE = '''
"""A module."""
RETRIES: int = 3
SHELL = """
umask 077
exec server
"""


class Queue:
    """A queue."""

    wait = 5

    @property
    def size(self):
        """Its size."""
        return (
            self._sent  # all of them
            - self._deleted
        )

    def send(self, body):
        """Send."""
        if body is None: raise TypeError('no body', "at all")
        self._check(body)
        self._put(body)


def unrelated( ): return 'kept as it is'
'''

LUA = """-- Include: prelude_dead_letters
local n = 1 -- how many
if n > 0
  then send(n) end
"""


@pytest.mark.parametrize("name", BREAKAGES)
def test_can_be_made(name):
    files = broken_files(Path(aiorsmq.__file__).parent, name, BREAKAGES[name])
    assert files
    for path, text in files.items():
        if path.suffix == ".py":
            compile(text, path, "exec")


def broken(folder, *edits):
    (folder / "_room").mkdir()
    (folder / "_room" / "_queue.py").write_text(SOURCE)
    (folder / "send.lua").write_text(LUA)
    (text,) = broken_files(folder, "a-breakage", Breakage("it fails", edits, ())).values()
    return text


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (Edit("Queue.size", "(self._sent - self._deleted)", "0"), "        return 0\n"),
        (Edit("Queue.send", "self._check(...)", ""), "at all')\n        self._put(body)\n"),
        (
            Edit("Queue.send", "self._check(body); self._put(body)", "pass"),
            "at all')\n        pass\n",
        ),
        (
            Edit("Queue.send", "raise TypeError(..., 'at all')", "return"),
            "if body is None:\n            return\n",
        ),
        (Edit("Queue.send", None, "return body"), '"""Send."""\n        return body\n'),
        (Edit("Queue", "", "del wait"), "        self._put(body)\n    del wait\n"),
        (Edit("queue:Queue.wait", "5", "60"), "    wait = 60\n"),
        (Edit("RETRIES", "3", "0"), "\nRETRIES: int = 0\n"),
        (StringEdit("SHELL", "077 exec", "022;  exec"), r"umask 022;  exec server\n"),
        (LuaEdit("send", "1 if n > 0 then", "1 if true then"), "= 1 if true then send(n) end\n"),
        (LuaEdit("send", "local n = 1", ""), "-- Include: prelude_dead_letters\n -- how many\n"),
    ],
)
def test_replaces(tmp_path, edit, expected):
    assert expected in broken(tmp_path, edit)


def test_keeps_what_it_does_not_name(tmp_path):
    before, after = SOURCE.split("        return (\n            self._sent")
    _, after = after.split("- self._deleted\n        )\n")
    assert broken(tmp_path, Edit("Queue.size", None, "return 1")) == (
        f"{before}        return 1\n{after}"
    )


def test_several_edits(tmp_path):
    text = broken(tmp_path, Edit("Queue.size", None, "return 1"), Edit("Queue.wait", "5", "6"))
    assert "return 1" in text
    assert "wait = 6" in text


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (Edit("Queue.purge", None, "pass"), "Queue.purge is not in the package any more"),
        (Edit("worker:Queue.send", None, ""), "worker:Queue.send is not in the package any more"),
        (StringEdit("HELLO", "a", "b"), "HELLO is not in the package any more"),
        (LuaEdit("receive", "a", "b"), "receive.lua is not in the package any more"),
        (
            Edit("Queue.send", "self._get()", "0"),
            "Queue.send has this 0 times, not once: self._get()",
        ),
        (Edit("Queue.send", "body", "0"), "Queue.send has this 3 times, not once: body"),
        (StringEdit("SHELL", "e", "b"), "SHELL has this 4 times, not once: e"),
        (LuaEdit("send", "how many", ""), "send.lua has this 0 times, not once: how many"),
    ],
)
def test_says_what_is_gone(tmp_path, edit, what):
    with pytest.raises(DoesNotFit) as error:
        broken(tmp_path, edit)
    assert str(error.value) == f"{what}: the breakage 'a-breakage' must follow it"


def test_two_modules(tmp_path):
    (tmp_path / "queue.py").write_text("def send(): pass\n")
    (tmp_path / "_dead.py").write_text("def send(): pass\n")
    with pytest.raises(
        DoesNotFit, match=r"^send is in 2 modules, name one: dead:send, queue:send: "
    ):
        broken(tmp_path, Edit("send", "pass", "return"))
    breakage = Breakage("it fails", (Edit("dead:send", "pass", "return"),), ())
    assert list(broken_files(tmp_path, "a-breakage", breakage)) == [tmp_path / "_dead.py"]
