"""Queues are listed, described, created, changed, deleted."""


async def test_ls(cli, rsmq):
    """`ls` says what waits in each queue; with --json for programs."""
    await rsmq.queue("jobs").ensure(max_receives=3, dead_letter_queue="dead")
    await rsmq.queue("jobs").send_many(["a", "b"])
    await rsmq.queue("jobs").receive(vt=60)
    lines = (await cli("ls")).out.splitlines()
    assert lines[0].split()[:4] == ["queue", "visible", "in", "flight"]
    assert lines[2].split()[:4] == ["jobs", "1", "1", "0"]
    dead, jobs = (await cli("ls", "--json")).json()
    assert (dead["name"], dead["messages"]) == ("dead", 0)
    assert (jobs["visible"], jobs["in_flight"], jobs["dead"]) == (1, 1, 0)
    assert jobs["stored"]["vt"] == "30"
