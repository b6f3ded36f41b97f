"""A queue on a set of servers, under everything at once, compared with a model of it."""

from chaos.on_sets import ClusterPrograms, ConfirmedPrograms, SentinelPrograms
from chaos.set_sites import ClusterSite, ReplicatedSite, SentinelSite


def test_confirmed(sentinels, programs, scale):
    """What is sent and confirmed, at once or when asked about again, is there once, and the replica
    has it.
    """
    site = ReplicatedSite(sentinels, events=scale(16, 160))
    machine = programs(ConfirmedPrograms, site, (10, 300), (100, 3000))
    assert machine.events >= site.events * 3 / 4  # how many steps the programs have varies
    assert machine.unconfirmed
    assert site.replica_has_it_all()


def test_sentinels(sentinels, programs, scale):
    """Planned failovers change nothing that a program sees."""
    site = SentinelSite(sentinels, events=scale(1, 5))
    machine = programs(SentinelPrograms, site, (6, 150), (60, 1000))
    assert machine.events >= site.events * 3 / 4  # how many steps the programs have varies


def test_cluster(cluster, programs, scale):
    """Nor do moves of the queues' slot, and replicas that take over."""
    site = ClusterSite(cluster, events=scale(9, 60))
    machine = programs(ClusterPrograms, site, (10, 300), (100, 3000))
    assert machine.events >= site.events * 3 / 4  # how many steps the programs have varies
