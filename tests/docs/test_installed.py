"""Which aiorsmq it is that the pages are tried with."""

import os
import subprocess
import sys
from pathlib import Path

import aiorsmq


def test_installed(tmp_path):
    """Programs get the package that these tests import; an installed one where a session of nox
    promises that.
    """
    program = "import aiorsmq; print(aiorsmq.__file__)"
    command = [sys.executable, "-c", program]
    printed = subprocess.check_output(command, text=True, cwd=tmp_path)
    assert Path(printed.rstrip("\n")) == Path(aiorsmq.__file__)
    if "AIORSMQ_INSTALLED" in os.environ:
        assert "site-packages" in Path(aiorsmq.__file__).parts
        assert aiorsmq.__version__ != "0+unknown"
