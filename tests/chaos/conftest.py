"""Chance that can be had again, two sizes of every test, and a table of the figures."""

import asyncio
import logging
import os
import random
import secrets

import hypothesis
import pytest
from hypothesis.stateful import run_state_machine_as_test

from chaos.history import LIMIT
from chaos.load import Load
from chaos.network import Proxy
from sets.conftest import cluster, sentinels  # noqa: F401 - fixtures

SEED = os.environ.get("AIORSMQ_CHAOS_SEED") or str(secrets.randbelow(10**9))

STEPS = 50
"""The most steps of one program."""
PHASES = (
    (hypothesis.Phase.generate, hypothesis.Phase.shrink)
    if os.environ.get("AIORSMQ_CHAOS_SHRINK") != "no"
    else (hypothesis.Phase.generate,)
)
"""Making a failing program shorter takes a minute, which the controls do not have."""

_reported = pytest.StashKey[list[tuple[str, str, str]]]()


def pytest_addoption(parser):
    parser.addoption(
        "--profile",
        choices=("quick", "full"),
        default="quick",
        help="how much chaos (default: quick)",
    )


def pytest_sessionstart(session):
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    terminal.write_line(
        f"chaos, {_profile(session.config)} profile; to run it again: AIORSMQ_CHAOS_SEED={SEED}"
    )


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash.get(_reported, [])
    if not rows:
        return
    terminalreporter.section(f"chaos, {_profile(config)} profile, seed {SEED}")
    for name, figures, limit in rows:
        terminalreporter.write_line(f"{name}: {figures} | {limit}")


def _profile(config):
    return config.getoption("--profile", "quick")


@pytest.fixture
def anyio_backend():
    return "asyncio", {"debug": False}


@pytest.fixture
def seed(request):
    """A `random.Random` of the test's own; the same for the same AIORSMQ_CHAOS_SEED."""
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture
async def proxy(server, seed):
    """A proxy in front of the server whose faults are drawn by the test's own chance."""
    async with Proxy(server.socket, f"{server.folder}/proxy.sock", chance=seed) as proxy:
        yield proxy


@pytest.fixture
def scale(request):
    """`scale(quick, full)` is the one that the profile calls for."""
    return lambda quick, full: full if _profile(request.config) == "full" else quick


@pytest.fixture
def report(request):
    """`report(figures, limit)` prints the test's line, and enters it in the table at the end."""
    name = request.node.name.removeprefix("test_")

    def report(figures: str, limit: str) -> None:
        request.config.stash.setdefault(_reported, []).append((name, figures, limit))
        with request.config.pluginmanager.get_plugin(
            "capturemanager"
        ).global_and_fixture_disabled():
            print(f"\n{name}: {figures} | {limit}")  # noqa: T201

    return report


@pytest.fixture
def load_on(seed, tmp_path):
    """`await load_on(server)` is a `Load`, with its queue; nothing runs yet."""
    loads = []

    async def load_on(server):
        loads.append(Load(server, tmp_path, seed))
        await loads[-1].create_queue()
        return loads[-1]

    yield load_on
    for load in loads:
        load.stop()


@pytest.fixture
def drain(report):
    """`await drain(load, said)` ends a load and reports it; nothing may be lost, and no call fail.

    `errors=True`: calls may fail. `**options` are those of `Load.drain`.
    """

    async def drain(load, said, *, errors=False, within=10, **options):
        verdict, seconds = await load.drain(within=within, **options)
        limit = LIMIT if errors else f"{LIMIT}; errors 0"
        report(
            f"{said}: {verdict}; empty after {seconds:.1f} s", f"{limit}; empty within {within} s"
        )
        assert verdict.violations == []
        assert errors or not verdict.errors
        return verdict

    return drain


@pytest.fixture
def fuzz(seed, scale, report, caplog):
    """`fuzz(check, **strategies)` calls it with many examples; their number depends on the
    profile.
    """
    caplog.set_level(logging.CRITICAL, "aiorsmq")

    def fuzz(check, many=1, **strategies):
        examples = scale(40, 600) * many
        count = 0

        def counting(**values):
            nonlocal count
            count += 1
            check(**values)

        settings = hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            print_blob=True,
            phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        hypothesis.seed(seed.getrandbits(64))(settings(hypothesis.given(**strategies)(counting)))()
        report(f"{count} examples, 0 surprises", "0 surprises")

    return fuzz


@pytest.fixture
def programs(seed, scale, report, caplog):
    """`programs(machine, site, quick, full)` runs programs of a state machine: how many, and how
    many steps they must have together, by the profile.
    """
    # the steps of a failure are what is to be read
    caplog.set_level(logging.CRITICAL, "aiorsmq")

    def programs(machine, site, quick, full):
        seeded = hypothesis.seed(seed.getrandbits(64))(type("Seeded", (machine,), {"site": site}))
        number, limit = scale(quick, full)
        settings = hypothesis.settings(
            max_examples=number,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            print_blob=True,
            phases=PHASES,
            report_multiple_bugs=False,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        differences = "1 difference"
        try:
            run_state_machine_as_test(seeded, settings=settings)
            differences = "0 differences"
        finally:
            report(
                f"{seeded.steps} steps of {number} programs{seeded.summary()}, {differences}",
                f"at least {limit} steps, 0 differences",
            )
        assert seeded.steps >= limit
        return seeded

    return programs


@pytest.fixture
def runner():
    """An event loop, in which no exception may be left to itself."""
    trouble = []
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda _, context: trouble.append(context))
        yield runner
    assert trouble == []
