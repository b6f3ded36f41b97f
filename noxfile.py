"""All that CI does: `nox -s NAME`; `nox -l` lists the names.

A session keeps its environment, and installs the versions in lock.txt; `-R` installs nothing.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "typing", "tests"]
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml()
PROJECT = Path(__file__).parent
PYTHONS = nox.project.python_versions(PYPROJECT)
LOCK = PROJECT / "lock.txt"
LOCKED = {"PIP_CONSTRAINT": str(LOCK), "PIP_BUILD_CONSTRAINT": str(LOCK)}
"""For pip. Newer ones take the second for what they install to build with, older ones the first."""

APART = [
    f"--ignore=tests/{folder}"
    for folder in ("interop", "docs", "website", "examples", "chaos", "sets", "tls")
]
PLAIN = (*APART, "-n", "2", "--loop", "asyncio", "--maxfail", "20")
"""On asyncio's own event loop, by two processes, each with its own server."""
OTHER_PLUGINS_OFF = ("-p", "no:asyncio", "-p", "no:aiohttp")
"""pytest-asyncio and pytest-aiohttp, which some examples use in a pytest of their own."""
BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
ON_EVERY_SERVER = (
    "tests/conformance",
    "tests/permissions",
    "tests/test_full_server.py",
    "tests/test_lost_replies.py",
    "tests/test_server_settings.py",
)
ON_REDIS = (
    "tests/dead_letters",
    "tests/foreign_data",
    "tests/test_announcements.py",
    "tests/test_connection.py",
    "tests/test_ensure.py",
    "tests/test_outages.py",
)
FURTHER = {
    "valkey-8": (),  # near to the Valkey 9 of the other sessions
    "redis-6": (*ON_REDIS, "tests/operations", "tests/worker", "tests/test_stream.py"),
    "redis-7": (*ON_REDIS, "tests/managed", "tests/test_confirm.py", "tests/tls"),
}
"""What else runs on each server. Only the last one is built with TLS."""
TIMED = (
    "tests/journey",
    "tests/operations/test_announcements.py",
    "tests/operations/test_pause.py",
    "tests/worker",
    "tests/test_announcements.py",
    "tests/test_outages.py",
    "tests/test_receive.py",
    "tests/test_stream.py",
    "tests/test_waiting.py",
)
"""What waits, and gives up."""
WITH_UVLOOP = (
    *TIMED,
    "tests/inside",
    "tests/sync",
    "tests/test_batch.py",
    "tests/test_client.py",
    "tests/test_connection.py",
    "tests/test_lost_replies.py",
    "tests/test_pipelining.py",
)
WITH_LOWEST = (
    "tests/cli/test_dead.py",
    "tests/cli/test_queues.py",
    "tests/cli/test_top.py",
    "tests/conformance",
    "tests/testing",
    "tests/worker",
    "tests/test_codecs.py",
    "tests/test_embedded.py",
    "tests/test_pipelining.py",
    "tests/test_stream.py",
)
REDIS_PY = {5: (2, 3), 6: (0, 2, 4), 7: (0, 2, 4), 8: (0, 1)}
"""Its minor versions, by the major one: the first, the last, and one between them."""


def _interpreter(version: str) -> str:
    """pyenv's interpreter, even if it is not selected; otherwise nox looks for one on PATH."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return next(map(str, pyenv.glob(f"versions/{version}.*/bin/python")), version)


def _is_here(version: str) -> bool:
    return any(map(shutil.which, (_interpreter(version), f"python{version}")))


HERE = [*filter(_is_here, PYTHONS)] or PYTHONS[:1]
"""The Pythons on this machine."""
NEWEST_PYTHON = HERE[-1]
SERVERS_PYTHON = HERE[len(HERE) // 2]
TESTED = (f"3.{sys.version_info.minor}", NEWEST_PYTHON, SERVERS_PYTHON)
OTHER_PYTHONS = [version for version in PYTHONS if version not in TESTED]
"""Those that none of the sessions `tests`, `uvloop` and `servers` is on: CI tests them as well."""


def _install(
    session: nox.Session, *groups: str, editable: bool = True, wheel: Path | str = "."
) -> None:
    """The project with all extras, and dependency groups, in the versions of the lock."""
    requirements = nox.project.dependency_groups(PYPROJECT, *groups)
    for requirement in requirements:
        name = re.split(r"[^\w-]", requirement)[0].lower()
        if f"\n{name}==" not in LOCK.read_text():
            session.error(f"no version of {name} in lock.txt: run `nox -s lock`")
    project = ["-e"] if editable and wheel == "." else []
    extras = ",".join(PYPROJECT["project"]["optional-dependencies"])
    session.install("-q", *project, f"{wheel}[{extras}]", *requirements, env=LOCKED)


@nox.session
def tests(session: nox.Session) -> None:
    """The tests on asyncio's event loop: they need only Python, and a few minutes."""
    _install(session, "test")
    session.run("pytest", *PLAIN, *session.posargs)


for version in PYTHONS:  # `nox -s tests-3.12`
    nox.session(tests, python=_interpreter(version), name=f"tests-{version}", default=False)


@nox.session(python=_interpreter(NEWEST_PYTHON))
def uvloop(session: nox.Session) -> None:
    """What an event loop may change, on uvloop and the newest Python."""
    _install(session, "test")
    session.run("pytest", "-q", "-n", "2", "--loop", "uvloop", *WITH_UVLOOP, *session.posargs)


@nox.session(python=_interpreter(NEWEST_PYTHON))
def busy(session: nox.Session) -> None:
    """What waits, beside six busy loops: it passes on a slow machine too. Not part of CI, whose
    lanes make the machine busy.
    """
    _install(session, "test")
    command = [sys.executable, "-c", BUSY]  # ends with this program
    loops = [subprocess.Popen(command) for _ in range(6)]  # noqa: S603
    try:
        session.run("pytest", "-q", *PLAIN, *TIMED, *session.posargs)
    finally:
        for loop in loops:
            loop.kill()


@nox.session(python=_interpreter(PYTHONS[0]))
def lowest(session: nox.Session) -> None:
    """The lowest versions that pyproject.toml allows of our dependencies, on the lowest Python."""
    _install(session, "test")
    project = PYPROJECT["project"]
    allowed = [project["dependencies"], *project["optional-dependencies"].values()]
    session.install("-q", *[name.replace(">=", "==") for names in allowed for name in names])
    session.run("pip", "check")
    session.run("pytest", "-q", "-n", "2", "--loop", "asyncio", *WITH_LOWEST, *session.posargs)


@nox.session(python=_interpreter(SERVERS_PYTHON))
def servers(session: nox.Session) -> None:
    """The wire format and faults on Valkey 8.1, Redis 6.2 and Redis 7, which it downloads."""
    _install(session, "test")
    folder = session.create_tmp()
    listed = session.run("python", "tests/servers.py", folder, silent=True) or ""
    command = ["pytest", "-q", "-n", "2", "--loop", "asyncio", *ON_EVERY_SERVER]
    for line in listed.splitlines():
        name, binary = line.split("\t")
        session.log(f"{name}: {binary}")
        env = {"AIORSMQ_TEST_SERVER": binary}
        further = FURTHER[name.partition(".")[0]]
        session.run(*command, *further, *session.posargs, env=env)


@nox.session(python=_interpreter(SERVERS_PYTHON))
def sets(session: nox.Session) -> None:
    """Sentinels and clusters, which lose nothing whatever happens to their servers: a table of
    faults, on Valkey 9 and Redis 7; or two minutes of it with `-- --profile quick`.
    """
    _install(session, "test")
    listed = session.run("python", "tests/servers.py", session.create_tmp(), silent=True) or ""
    (redis,) = re.findall(r"^(redis-7\S*)\t(.+)$", listed, re.MULTILINE)
    servers = {"valkey-9": "", redis[0]: redis[1]}  # the first is the embedded one
    for binary in list(servers.values())[: 1 if "quick" in session.posargs else None]:
        env = {"AIORSMQ_TEST_SERVER": binary}
        session.run("pytest", "-q", "-n", "2", "--loop", "asyncio", "tests/sets", env=env)
    named = [f"--server={name}={binary}" for name, binary in servers.items()]
    session.run("python", "tests/sets/faults.py", *named, *session.posargs)


@nox.session
def redis_versions(session: nox.Session) -> None:
    """The fast and the fallback connection code, with versions of redis-py from 5.2 on."""
    _install(session, "test")
    module = "tests/test_pipelining.py"
    slow = f"{module}::test_slow_line"
    command = ["pytest", "-q", "-n", "4", "--loop", "asyncio", module, "--deselect", slow]
    for version in [f"{major}.{minor}" for major in REDIS_PY for minor in REDIS_PY[major]]:
        session.install("-q", f"redis[hiredis]~={version}.0")
        session.run("python", "-c", "import redis; print('redis-py', redis.__version__)")
        session.run(*command, *session.posargs)


@nox.session
def interop(session: nox.Session) -> None:
    """One queue shared with the real Node rsmq and the real PyRSMQ; needs Node and npm."""
    _install(session, "test", "interop")
    _npm_ci(session, "tests/interop")
    session.run("pytest", "tests/interop", "tests/cli/test_bench.py", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Nothing is lost under faults: ten minutes, or two with `-- --profile quick`; needs npm."""
    _install(session, "test", "interop", "chaos")
    _npm_ci(session, "tests/interop")
    _apt_install(session, "faketime", "faketime")
    session.run("pytest", "tests/chaos", "--profile", "full", *session.posargs)


@nox.session
def controls(session: nox.Session) -> None:
    """Break the library in one place at a time; a test must fail each time. About 15 minutes."""
    _install(session, "test", "chaos")
    session.run("python", "tests/chaos/controls.py", *session.posargs)


@nox.session
def examples(session: nox.Session) -> None:
    """The examples, and what the documentation shows, as programs, with the package installed as
    users have it; installs Chromium if needed.
    """
    _install(session, "test", "examples", editable=False)
    _apt_install(session, "chromium", "chromium")
    session.run(
        *("pytest", *OTHER_PLUGINS_OFF, "-n", "2", "tests/examples", "tests/docs"),
        *session.posargs,
        env={"AIORSMQ_INSTALLED": "1"},
    )


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/, in strict mode; check its links, its spelling, and how it
    looks in a browser; `-- --screenshots FOLDER` takes pictures. Needs npm.
    """
    _install(session, "test", "docs")
    _npm_ci(session, "tests/website")
    _apt_install(session, "chromium", "chromium")
    session.run("pytest", "--loop", "asyncio", "tests/website", *session.posargs)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """The library beside nine others; needs npm, installs Debian's redis-benchmark if needed."""
    _install(session, "benchmarks")
    _npm_ci(session, "tests/benchmarks")
    _apt_install(session, "redis-benchmark", "redis-tools")
    session.run("python", "tests/benchmarks/run.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, which module may import which, how large one may be, and GitHub's workflows."""
    _install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    session.run("python", "tests/sizes.py")
    session.run("zizmor", "--quiet", "--offline", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """The package in strict mode, the types that its users see, and that none is missing."""
    _install(session, "typing", editable=False)
    session.run("pyright")
    session.run("pyright", "--verifytypes", "aiorsmq", "--ignoreexternal")


@nox.session(reuse_venv=False)
def wheel(session: nox.Session) -> None:
    """Builds dist/, or takes `-- WHEEL`; tests the wheel away from the sources, without extras and
    then with each extra alone.
    """
    if session.posargs:
        file = Path(session.posargs[0]).resolve()
    else:
        shutil.rmtree("dist", ignore_errors=True)
        empty = _installed(session)
        session.install("-q", *nox.project.dependency_groups(PYPROJECT, "build"), env=LOCKED)
        session.run("python", "-m", "build", silent=True, env=LOCKED)  # the wheel from the sdist
        session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))
        (file,) = (path.resolve() for path in Path("dist").glob("*.whl"))
        session.run("pip", "uninstall", "-q", "-y", *_installed(session) - empty)
    session.chdir(session.create_tmp())
    session.install("-q", str(file))
    alone = _installed(session)
    for extra in ("", *PYPROJECT["project"]["optional-dependencies"]):
        if extra:
            session.install("-q", f"{file}[{extra}]")
        session.run("pip", "check")
        session.run("python", "-I", str(PROJECT / "tests" / "wheel.py"), extra)
        if extra:
            session.run("pip", "uninstall", "-q", "-y", *_installed(session) - alone)


def _installed(session: nox.Session) -> set[str]:
    """The names of all packages in the session's environment."""
    names = "from importlib.metadata import distributions as all; print(*[p.name for p in all()])"
    return {*(session.run("python", "-I", "-c", names, silent=True) or "").split()}


@nox.session(default=False)
def pages(session: nox.Session) -> None:
    """What the documentation shows, as programs, with the installed `-- WHEEL`."""
    (file,) = session.posargs
    _install(session, "test", "examples", wheel=Path(file).resolve())
    session.chdir(session.create_tmp())
    config = ("-c", str(PROJECT / "pyproject.toml"), "--rootdir", str(PROJECT))
    session.run(
        *("pytest", *OTHER_PLUGINS_OFF, "-n", "2", *config, str(PROJECT / "tests" / "docs")),
        env={"AIORSMQ_INSTALLED": "1"},
    )


@nox.session(default=False)
def pictures(session: nox.Session) -> None:
    """Make the pictures of the command line in docs/pictures again: look at them."""
    _install(session, "test")
    session.run("pytest", "-q", "tests/cli/test_pictures.py", "--write-pictures")


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Update lock.txt when pyproject.toml has changed; `-- --upgrade` takes the newest versions."""
    session.install("-q", *nox.project.dependency_groups(PYPROJECT, "lock"), env=LOCKED)
    groups = [f"--group={group}" for group in PYPROJECT["dependency-groups"]]
    session.run(
        *("uv", "pip", "compile", "--quiet", "pyproject.toml", "--all-extras", *groups),
        *("--universal", "--python-version", PYTHONS[0], "--output-file", "lock.txt"),
        *("--custom-compile-command", "nox -s lock", *session.posargs),
    )


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
