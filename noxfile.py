"""All that CI does: `nox -s NAME`; `nox -l` lists the names."""

import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.sessions = ["tests", "lint", "typing"]
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

PYPROJECT = nox.project.load_toml()


def _interpreters() -> list[str]:
    """Those of 3.11 to 3.13 that are present and start; pyenv's are found even when they are not selected."""
    found: list[str] = []
    for version in ("3.11", "3.12", "3.13"):
        on_path = shutil.which(f"python{version}")
        pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
        for python in [on_path, *map(str, pyenv)]:
            if python and subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:  # noqa: S603
                found.append(python)
                break
    return found or [sys.executable]


def _install(session: nox.Session, *groups: str) -> None:
    session.install("-q", "-e", ".[embedded]", *nox.project.dependency_groups(PYPROJECT, *groups))


@nox.session(python=_interpreters())
def tests(session: nox.Session) -> None:
    """The tests on the embedded server, on every interpreter that is present."""
    _install(session, "test")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and which module may import which."""
    _install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    session.run("python", "tests/sizes.py")


@nox.session
def typing(session: nox.Session) -> None:
    """The package in strict mode, the types that its users see, and that none is missing."""
    session.install("-q", ".[embedded]", *nox.project.dependency_groups(PYPROJECT, "typing"))
    session.run("pyright")
    session.run("pyright", "--verifytypes", "aiorsmq", "--ignoreexternal")
