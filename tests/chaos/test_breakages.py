"""The controls take long and are run seldom; this much of them is looked at every time."""

from pathlib import Path

import aiorsmq
import pytest

from chaos.breakages import BREAKAGES


@pytest.mark.parametrize("name", BREAKAGES)
def test_can_be_made(name):
    """What the breakage would change is there, once."""
    for file, old, _ in BREAKAGES[name].changes:
        assert (Path(aiorsmq.__file__).parent / file).read_text().count(old) == 1
