"""Consumers are stopped and killed, by force and by request; under load."""

from chaos.history import LIMIT
from chaos.load import MIXED
from support import wait_until


async def test_stopped_past_its_lease(server, load_on, scale, report):
    """A consumer that was stopped past its lease can no longer extend or delete what another has
    received.
    """
    load = await load_on(server)
    count = scale(40, 400)
    producer = load.start("producer", tasks=4, count=count // 4, pause=0)
    await load.all_run()
    await producer.has_ended()
    stopped = load.start("consumer", tasks=count, pause=0.4, extend=1)
    await wait_until(lambda: stopped.count("delivered") == count)
    stopped.freeze()
    other = load.start("consumer", tasks=count // 2, pause=0.2)
    await wait_until(lambda: other.count("deleted") >= count // 4)
    stopped.thaw()
    await wait_until(
        lambda: (
            stopped.count("deleted") + stopped.count("delete refused") >= stopped.count("delivered")
        )
    )
    verdict, _ = await load.drain(within=10)
    taken = {one["id"] for one in other.operations if one["op"] == "delivered"}
    late = [one for one in stopped.operations if one.get("rc") == 1 and one.get("id") in taken]
    said = {
        op: sum(one["op"] == op for one in late)
        for op in ("deleted", "extend refused", "delete refused")
    }
    report(f"{len(taken)} taken over, the late consumer: {said}; {verdict}", f"deleted 0; {LIMIT}")
    assert verdict.violations == []
    assert said["deleted"] == 0
    assert said["delete refused"] == len(taken) > count / 2
    assert said["extend refused"] > count / 2


async def test_killed_consumers(server, load_on, scale, drain):
    """Consumers that are killed, or asked to end, take nothing with them."""
    load = await load_on(server)
    load.start("producer", delayed=0.1)
    options = MIXED | {"prefetch": 8}
    for _ in range(2):
        load.start("consumer", **options)
    await load.all_run()
    ends = await load.replace("consumer", scale(2, 20), **options)
    verdict = await drain(load, dict(ends))
    assert verdict.redelivered > 0
