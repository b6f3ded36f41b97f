"""`check` judges queues for monitoring: Nagios, Prometheus, scripts."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from aiorsmq.cli.check import examine
from aiorsmq.cli.reports import Level, Limit, render
from prometheus_client.parser import text_string_to_metric_families

NOWHERE = "redis://:s3cret@127.0.0.1:1"


async def test_without_thresholds(cli, rsmq):
    """Without thresholds a queue has to exist, and not to be paused."""
    assert (await cli("check", expect=3)).out == "UNKNOWN   no queues in namespace 'rsmq'\n"
    await rsmq.queue("jobs").create()
    await rsmq.queue("jobs").send_many(["a", "b"])
    assert re.fullmatch(r"OK +jobs  2 visible, oldest \d+ s\n", (await cli("check")).out)
    result = await cli("check", "nothing", "jobs", expect=2)
    assert re.fullmatch(r"OK .*\nCRITICAL  nothing  does not exist\n", result.out)


async def test_nagios(cli, server, queue):
    """In one line: what is wrong, worst queue first, and the numbers with their thresholds."""
    await queue.send_many(["a", "b", "c"])
    for id in server.redis.zrange("rsmq:jobs", 0, -1):
        server.redis.zincrby("rsmq:jobs", -3_600_000, id)
    limits = ("--age-warn", "1m", "--age-crit", "30m", "--depth-warn", "2", "--consumers-warn", "1")
    line = (await cli("check", *limits, "--format", "nagios", expect=2)).out
    match = re.fullmatch(
        r"RSMQ CRITICAL - jobs: oldest (3,6\d\d) s \(> 1800\), 3 visible \(> 2\), "
        r"0 listening \(< 1\) \| 'jobs_age'=(36\d\d[.\d]*)s;60;1800;0 'jobs_depth'=3;2;;0 "
        r"'jobs_consumers'=0;1:;;0 'jobs_sent'=3c 'jobs_received'=0c\n",
        line,
    )
    assert match, line
    assert (await cli("check", "--depth-warn", "3", "--format=nagios")).out.startswith("RSMQ OK - ")


async def test_prometheus(cli, rsmq):
    """Prometheus' own parser reads it."""
    await rsmq.queue("jobs").ensure(max_receives=1, dead_letter_queue="dead")
    await rsmq.queue("jobs").send_many(["a", "b"], delay=0)
    await rsmq.queue("jobs").receive(vt=60)
    await rsmq.queue("dead").send("x")
    result = await cli("check", "--dead-crit", "0", "--format", "prometheus", expect=2)
    families = list(text_string_to_metric_families(result.out))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation for family in families)
    kinds = {family.name: family.type for family in families}
    assert kinds["rsmq_queue_sent"] == kinds["rsmq_queue_received"] == "counter"
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }
    assert values["rsmq_queue_messages", "jobs", "visible"] == 1
    assert values["rsmq_queue_messages", "jobs", "hidden"] == 1
    assert 0 <= values["rsmq_queue_oldest_claimable_seconds", "jobs"] < 60
    assert values["rsmq_queue_sent_total", "jobs"] == 2
    assert values["rsmq_queue_received_total", "jobs"] == 1
    assert values["rsmq_queue_dead_messages", "jobs"] == 1
    assert values["rsmq_queue_dead_messages", "dead"] == 0
    assert values["rsmq_queue_consumers", "jobs"] == 0
    assert values["rsmq_queue_check_status", "jobs"] == 2
    assert values["rsmq_queue_check_status", "dead"] == 0
    assert values["rsmq_check_status",] == 2


async def test_json(cli, queue):
    """JSON has each queue's status, findings and facts."""
    await queue.send("a")
    result = (
        await cli("check", "jobs", "no", "--depth-crit", "0", "--format", "json", expect=2)
    ).json()
    assert (result["status"], result["code"]) == ("critical", 2)
    assert result["text"] == "jobs: 1 visible (> 0); no: does not exist"
    jobs, missing = result["queues"]
    finding = {"metric": "depth", "status": "critical", "text": "1 visible (> 0)"}
    assert (jobs["name"], jobs["findings"], jobs["facts"]["visible"]) == ("jobs", [finding], 1)
    assert (missing["name"], missing["facts"]) == ("no", None)


@pytest.mark.parametrize("format", ["text", "nagios", "json", "prometheus"])
async def test_unknown(cli, format):
    """What cannot be checked is unknown, exit code 3, in the format that was asked for: no server,
    bad values, wrong usage."""
    starts = {
        "text": "UNKNOWN   {}",
        "nagios": "RSMQ UNKNOWN - {}",
        "json": '{{"status": "unknown", "code": 3, "text": "{}',
        "prometheus": "# {}",
    }
    for arguments, text in (
        (["--url", NOWHERE], "cannot reach 127.0.0.1:1"),
        (["b d"], "qnames='b d': must be"),
        (["--age-warn", "5m", "--age-crit", "60"], "age-warn=300.0: must not be > age-crit=60"),
        (["--depth-warn", "many"], "wrong usage, see aiorsmq check --help"),
    ):
        result = await cli("check", *arguments, "--format", format, expect=3)
        assert result.out.startswith(starts[format].format(text))
        assert "s3cret" not in result.out + result.err
        if format == "prometheus":
            *_, family = text_string_to_metric_families(result.out)
            assert (family.name, family.samples[0].value) == ("rsmq_check_status", 3)
        else:
            assert result.out.count("\n") == 1


async def test_refused(cli, server, queue):
    """A user without rights: unknown."""
    server.redis.acl_setuser("guest", enabled=True, nopass=True, categories=["+@connection"])
    try:
        url = server.url.replace("unix://", "unix://guest:x@")
        result = await cli("check", "--format", "nagios", "--url", url, expect=3)
        assert result.out.startswith("RSMQ UNKNOWN - ")
    finally:
        server.redis.acl_deluser("guest")


async def test_judgement(rsmq, queue):
    """Each threshold; a paused queue; what the server does not tell; dead-letter queues."""
    await rsmq.queue("jobs").set_attributes(max_receives=2, dead_letter_queue="dead")
    await rsmq.queue("dead").ensure()
    jobs = replace(await queue.snapshot(), dead=2, consumers=1)
    dead = replace(await rsmq.queue("dead").snapshot(), visible=2, oldest_claimable_age=9e5)

    def judge(queue, *limits, named=(), allow_paused=False):
        report = examine([dead, queue], named, limits, allow_paused=allow_paused)
        return report.level, report.text

    age = Limit("age", 60, 300)
    assert judge(jobs, age, Limit("dead", 2, 2), Limit("consumers", 1, 1, is_minimum=True)) == (
        Level.OK,
        "2 queues, 2 visible, oldest 900,000 s",
    )
    assert judge(jobs, age, named=["dead"])[0] is Level.CRITICAL
    assert judge(jobs, Limit("dead", 1))[1] == "jobs: 2 dead (> 1)"
    late = replace(jobs, visible=1, oldest_claimable_age=60.5)
    assert judge(late, age)[0] is Level.WARNING
    assert judge(replace(late, oldest_claimable_age=301.0), age)[0] is Level.CRITICAL
    unseen = replace(jobs, dead=None, consumers=None)
    limits = (Limit("dead", 1), Limit("consumers", 1, is_minimum=True))
    assert judge(unseen) == (Level.OK, "2 queues, 2 visible, oldest 900,000 s")
    assert judge(unseen, *limits)[0] is Level.UNKNOWN
    assert judge(replace(unseen, visible=1, oldest_claimable_age=70.0), age, *limits) == (
        Level.WARNING,
        "jobs: oldest 70 s (> 60), dead: cannot be seen, consumers: cannot be seen",
    )
    since = jobs.server_time - timedelta(minutes=5)
    paused = replace(jobs, paused_since=since)
    assert judge(paused) == (Level.WARNING, "jobs: paused for 5 min")
    assert judge(paused, allow_paused=True)[0] is Level.OK
    report = examine([paused], (), (), allow_paused=True)
    assert 'rsmq_queue_paused{queue="jobs"} 1' in render(report, "prometheus")
