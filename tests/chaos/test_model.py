"""A queue under everything at once, compared step by step with a model of it."""

import logging
import os

import hypothesis
from hypothesis import Phase
from hypothesis.stateful import run_state_machine_as_test

from chaos.disturbed import DisturbedPrograms

STEPS = 50
"""The most steps of one program."""
PHASES = (
    (Phase.generate, Phase.shrink)
    if os.environ.get("AIORSMQ_CHAOS_SHRINK") != "no"
    else (Phase.generate,)
)
"""Making a failing program shorter takes a minute, which the controls do not have."""


def test_model(running_server, seed, scale, report, caplog):
    """Whatever is done to a queue, by whomever and in whatever order, the server holds what the
    model does.
    """
    caplog.set_level(logging.CRITICAL, "aiorsmq")  # the steps of a failure are what is to be read
    machine = hypothesis.seed(seed.getrandbits(64))(
        type("Seeded", (DisturbedPrograms,), {"server": running_server})
    )
    programs, limit = scale(40, 600), scale(1300, 20_000)
    settings = hypothesis.settings(
        max_examples=programs,
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
        run_state_machine_as_test(machine, settings=settings)
        differences = "0 differences"
    finally:
        report(
            f"{machine.steps} steps of {programs} programs, {differences}",
            f"at least {limit} steps, 0 differences",
        )
    assert machine.steps >= limit
