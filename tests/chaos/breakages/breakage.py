"""One way to break the library, and the tests that must notice."""

from pathlib import Path
from typing import NamedTuple

from .edits import DoesNotFit, Edit, LuaEdit, StringEdit, read_sources

MODEL = "chaos/test_model.py::test_model --profile full"


class Breakage(NamedTuple):
    what: str
    edits: tuple[Edit | LuaEdit | StringEdit, ...]
    caught_by: tuple[str, ...]
    """Tests, each of which must go red."""


def broken_files(package: Path, name: str, breakage: Breakage) -> dict[Path, str]:
    """The files of a package that the breakage changes, with their new text.

    Raises DoesNotFit if the breakage names code that is not there.
    """
    sound = read_sources(package)
    broken = dict(sound)
    for edit in breakage.edits:
        try:
            edit.apply(broken)
        except DoesNotFit as error:
            raise DoesNotFit(f"{error}: the breakage {name!r} must follow it") from None
    return {path: text for path, text in broken.items() if text != sound[path]}
