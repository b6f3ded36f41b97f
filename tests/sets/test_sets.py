"""The sets of servers do what other tests rely on."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot

from sets.cluster import Cluster
from sets.node import is_replica_of, until

KEY = "{rsmq}:QUEUES"
SLOT = key_slot(KEY.encode())


def test_planned_failover(sentinels):
    """After a failover the replica is the primary, and the primary its replica."""
    before = sentinels.primary()
    after = sentinels.failover()
    assert after is not before
    sentinels.wait_until_whole()
    assert sentinels.replicas() == [before]


def test_killed_primary(sentinels):
    """The sentinels replace a killed primary; started again, it becomes a replica."""
    before = sentinels.primary()
    before.kill()
    sentinels.wait_for_failover(before)
    before.start()
    sentinels.wait_until_whole()


def test_frozen_sentinel(sentinels):
    """A frozen sentinel is not asked, and the others still know the primary."""
    frozen, *_ = sentinels.sentinels
    frozen.freeze()
    with pytest.raises(redis.TimeoutError):
        frozen.ask("PING")
    assert sentinels.primary().is_well
    frozen.thaw()
    sentinels.wait_until_whole()


def test_slot_moved_by_key(cluster):
    """A slot and its keys move to another node, which serves them from then on."""
    source = cluster.owner(SLOT)
    source.ask("SADD", KEY, "jobs")
    target = next(node for node in cluster.primaries() if node is not source)
    cluster.begin_move(SLOT, source, target)
    with pytest.raises(redis.exceptions.AskError):
        source.ask("GET", "{rsmq}:missing")
    cluster.move_key(KEY, source, target)
    cluster.end_move(SLOT, source, target)
    assert cluster.owner_of(KEY) is target
    assert target.ask("SMEMBERS", KEY) == {b"jobs"}
    with pytest.raises(redis.exceptions.MovedError):
        source.ask("SMEMBERS", KEY)


def test_slot_moved_to_and_fro(cluster):
    """All keys of a slot move along."""
    source = cluster.owner(SLOT)
    for n in range(25):
        source.ask("SET", f"{{rsmq}}:{n}", n)
    target = next(node for node in cluster.primaries() if node is not source)
    cluster.move(SLOT, target)
    assert source.ask("CLUSTER", "COUNTKEYSINSLOT", SLOT) == 0
    cluster.move(SLOT, source)
    assert source.ask("CLUSTER", "COUNTKEYSINSLOT", SLOT) >= 25


def test_slot_moved_at_once(cluster):
    """Valkey 9 moves a slot in one piece; other servers refuse the command."""
    source = cluster.owner(SLOT)
    target = next(node for node in cluster.primaries() if node is not source)
    if "valkey_version" not in source.redis.info("server"):
        with pytest.raises(redis.ResponseError, match="MIGRATESLOTS"):
            cluster.move_at_once(SLOT, target)
        return
    cluster.move_at_once(SLOT, target)
    assert cluster.owner(SLOT) is target


def test_cluster_failover(cluster):
    """By CLUSTER FAILOVER a replica takes the slots of its primary."""
    before = cluster.owner(SLOT)
    after = cluster.failover(before)
    cluster.wait_until_whole()
    assert cluster.owner(SLOT) is after
    assert is_replica_of(before, after)


def test_killed_node(cluster):
    """The replica of a killed node takes its slots; started again, the node becomes a replica."""
    before = cluster.owner(SLOT)
    before.kill()
    cluster.wait_for_failover(SLOT, before)
    before.start()
    cluster.wait_until_whole()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_no_server_outlives_the_program(number):
    """However a program ends, its servers end, too, frozen ones as well."""
    program = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from sets.sentinels import Sentinels\n"
        "with Sentinels() as sentinels:\n"
        "    sentinels.nodes[0].freeze()\n"
        "    print(*[server.process.pid for server in sentinels.servers], flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        pids = [int(pid) for pid in running.stdout.readline().split()]
        assert len(pids) == 5
        running.send_signal(number)
    until("the servers have ended", lambda: not any(map(runs, pids)))


def test_failure_keeps_logs(capsys):
    """A set that does not come about says why, and where its logs are."""
    with (
        pytest.raises(RuntimeError, match=r"has ended(.|\n)*no-such-option"),
        Cluster("--no-such-option", "yes"),
    ):
        pass
    logs = re.search(r"the logs of the servers are in (\S+)/\*/server.log", capsys.readouterr().err)
    shutil.rmtree(logs[1])


def runs(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie: nobody waits for an orphan here."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
