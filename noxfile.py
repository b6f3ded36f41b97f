"""All that CI does: `nox -s NAME`; `nox -l` lists the names."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.sessions = ["tests", "lint", "typing"]
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml()
PROJECT = Path(__file__).parent


def _other_interpreters() -> list[str]:
    """Those of 3.11 to 3.13 that are present, start, and do not run this; pyenv's are found even if
    not selected.
    """
    found: list[str] = []
    for version in sorted({"3.11", "3.12", "3.13"} - {f"3.{sys.version_info.minor}"}):
        on_path = shutil.which(f"python{version}")
        pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
        for python in [on_path, *map(str, pyenv)]:
            if python and subprocess.run([python, "-c", ""], capture_output=True).returncode == 0:  # noqa: S603, PLW1510
                found.append(python)
                break
    return found or [sys.executable]


def _install(session: nox.Session, *groups: str) -> None:
    session.install("-q", "-e", ".[embedded]", *nox.project.dependency_groups(PYPROJECT, *groups))


APART = [f"--ignore=tests/{folder}" for folder in ("interop", "examples", "chaos")]
PLAIN = (*APART, "-n", "2", "-k", "not uvloop")
"""On asyncio's own event loop, by two processes, each with its own server."""
BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"


@nox.session
def tests(session: nox.Session) -> None:
    """The tests on asyncio's own event loop; they need nothing but Python, and take less than three
    minutes.
    """
    _install(session, "test")
    session.run("pytest", *PLAIN, *session.posargs)


@nox.session(python=_other_interpreters())
def interpreters(session: nox.Session) -> None:
    """The tests on every other interpreter that is present."""
    _install(session, "test")
    session.run("pytest", "-q", *PLAIN, *session.posargs)


@nox.session
def uvloop(session: nox.Session) -> None:
    """The tests on uvloop."""
    _install(session, "test")
    session.run("pytest", "-q", *APART, "-n", "2", "-k", "uvloop", *session.posargs)


@nox.session
def busy(session: nox.Session) -> None:
    """The tests beside six busy loops: a slow machine turns none of them red."""
    _install(session, "test")
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(6)]  # noqa: S603 - each ends with this program
    try:
        session.run("pytest", "-q", *PLAIN, *session.posargs)
    finally:
        for loop in loops:
            loop.kill()


ON_EVERY_SERVER = (
    "tests/conformance",
    "tests/dead_letters",
    "tests/foreign_data",
    "tests/permissions",
    "tests/worker",
    "tests/test_announcements.py",
    "tests/test_connection.py",
    "tests/test_full_server.py",
    "tests/test_lost_replies.py",
    "tests/test_outages.py",
    "tests/test_server_settings.py",
    "tests/test_stream.py",
    "tests/test_waiting.py",
)


@nox.session
def servers(session: nox.Session) -> None:
    """What is promised of the wire and under faults, on Valkey 8.1, Redis 6.2 and Redis 7, which it
    fetches itself.
    """
    _install(session, "test")
    folder = session.create_tmp()
    listed = session.run("python", "tests/servers.py", folder, silent=True) or ""
    for line in listed.splitlines():
        name, binary = line.split("\t")
        session.log(f"{name}: {binary}")
        session.run(
            "pytest",
            "-q",
            "-k",
            "not uvloop",
            *ON_EVERY_SERVER,
            *session.posargs,
            env={"AIORSMQ_TEST_SERVER": binary},
        )


@nox.session
def redis_versions(session: nox.Session) -> None:
    """Both ways to the socket, one of which touches redis-py's inside, on every minor version of
    redis-py.
    """
    _install(session, "test")
    for version in (
        "5.2",
        "5.3",
        "6.0",
        "6.1",
        "6.2",
        "6.3",
        "6.4",
        "7.0",
        "7.1",
        "7.2",
        "7.3",
        "7.4",
        "8.0",
        "8.1",
    ):
        session.install("-q", f"redis[hiredis]~={version}.0")
        session.run("python", "-c", "import redis; print('redis-py', redis.__version__)")
        session.run(
            "pytest",
            "-q",
            "tests/test_pipelining.py",
            "-k",
            "asyncio and not slow_line",
            *session.posargs,
        )


@nox.session
def interop(session: nox.Session) -> None:
    """One queue shared with the real Node rsmq and the real PyRSMQ; needs Node and npm."""
    _install(session, "test", "interop")
    _npm_ci(session, "tests/interop")
    session.run("pytest", "tests/interop", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Nothing is lost, under faults: at most ten minutes, or two with `-- --profile quick`; needs
    Node and npm.
    """
    _install(session, "test", "interop", "chaos")
    _npm_ci(session, "tests/interop")
    _apt_install(session, "faketime", "faketime")
    session.run("pytest", "tests/chaos", "--profile", "full", *session.posargs)


@nox.session
def controls(session: nox.Session) -> None:
    """Break the library in one place at a time, and demand that a test goes red; eight to sixteen
    minutes.
    """
    _install(session, "test", "chaos")
    session.run("python", "tests/chaos/controls.py", *session.posargs)


@nox.session
def examples(session: nox.Session) -> None:
    """The examples as programs, over HTTP and in a real browser; installs Debian's Chromium if
    there is none.
    """
    _install(session, "test", "examples")
    _apt_install(session, "chromium", "chromium")
    session.run("pytest", "tests/examples", *session.posargs)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """The library beside nine others; needs Node and npm, installs redis-benchmark if it is
    missing.
    """
    _install(session, "benchmarks")
    _npm_ci(session, "tests/benchmarks")
    _apt_install(session, "redis-benchmark", "redis-tools")
    session.run("python", "tests/benchmarks/run.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, which module may import which, and how large one may be."""
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


@nox.session
def wheel(session: nox.Session) -> None:
    """The wheel, installed without extras, away from the sources."""
    session.install("-q", "build")
    folder = session.create_tmp()
    session.run("python", "-m", "build", "--wheel", "--outdir", folder, ".", silent=True)
    (built,) = sorted(Path(folder).glob("*.whl"), key=os.path.getmtime)[-1:]
    session.install("-q", str(built))
    session.run("pip", "check")
    session.chdir(folder)
    session.run("python", "-I", str(PROJECT / "tests" / "wheel.py"))


def _npm_ci(session: nox.Session, folder: str) -> None:
    """What Node's programs in a folder need, as locked."""
    if not shutil.which("npm"):
        session.error("this needs Node and npm")
    session.run(
        "npm", "ci", "--silent", "--no-audit", "--no-fund", "--prefix", folder, external=True
    )


def _apt_install(session: nox.Session, program: str, package: str) -> None:
    """Debian's package, if its program is not there."""
    if not shutil.which(program):
        session.run("apt-get", "update", "-q", external=True, silent=True)
        session.run("apt-get", "install", "-q", "-y", package, external=True, silent=True)
