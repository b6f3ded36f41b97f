"""Messages that die: made, moved and counted."""

from support import ids_in, next_millisecond, wait_until


async def spend(queue, *bodies, times=1):
    """Send messages and receive each so many times; they are visible again."""
    ids = [await queue.send(body) for body in bodies]
    for _ in range(times):
        for message in await queue.receive_many(len(ids), vt=1000):
            await message.release()
    return ids


async def bury(queue, *bodies, reason="of old age"):
    """Send messages and have them die."""
    await queue.send_many(bodies)
    records = [message._record for message in await queue.receive_many(len(bodies))]
    assert await queue._core.bury(records, reason) == ["dead"] * len(bodies)
    await next_millisecond()
    return [record.id.decode() for record in records]


async def moved(server, ids, qname="dead"):
    """Wait until just these are in the other queue."""
    await wait_until(lambda: sorted(ids_in(server, qname)) == sorted(ids))


async def counts(redrive):
    return [count async for count in redrive]
