"""A queue under everything at once, compared step by step with a model of it."""

from chaos.disturbed import DisturbedPrograms
from chaos.site import Site


def test_model(running_server, programs):
    """Whatever is done to a queue, by whomever and in whatever order, the server holds what the
    model does.
    """
    programs(DisturbedPrograms, Site(running_server), (40, 1300), (600, 20_000))
