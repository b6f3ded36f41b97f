"""A queue under everything at once, step by step beside a model of it."""

import logging

import hypothesis
from hypothesis.stateful import run_state_machine_as_test

from chaos.disturbed import DisturbedPrograms

STEPS = 50
"""Of one program."""


def test_model(running_server, seed, scale, report, caplog):
    """Whatever is done to a queue, by whomever and in whatever order, the server holds what the model does."""
    caplog.set_level(logging.CRITICAL, "aiorsmq")  # the steps of a failure are what is to be read
    programs = scale(60, 600)
    machine = hypothesis.seed(seed.getrandbits(64))(type("Seeded", (DisturbedPrograms,), {"server": running_server}))
    settings = hypothesis.settings(
        max_examples=programs,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=True,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    run_state_machine_as_test(machine, settings=settings)
    steps = machine.steps - programs
    report(f"{steps} steps in {programs} programs, 0 differences", f"at least {scale(2000, 20_000)} steps, 0")
    assert steps >= scale(2000, 20_000)
