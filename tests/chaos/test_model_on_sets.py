"""A queue on a set of servers, under everything at once, compared with a model of it."""

from chaos.on_sets import SentinelPrograms
from chaos.set_sites import SentinelSite


def test_sentinels(sentinels, programs):
    """Failovers as planned change nothing that a program sees."""
    programs(SentinelPrograms, SentinelSite(sentinels), (10, 300), (100, 3000))
