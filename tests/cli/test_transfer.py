"""A queue is taken out as JSON lines, and put in again, from the command line."""

import json
import signal

from aiorsmq import BYTES

from support import ids_in, keyspace, wait_until


async def test_round_trip(inside, rsmq, server, tmp_path):
    """What was exported is imported byte for byte, with ids and times if they are to be kept."""
    queue = rsmq.queue("jobs", codec=BYTES)
    await queue.create(vt=50, maxsize=2000)
    await queue.send_many([bytes(range(256)), b"[red]\n\x1b", b""])
    await queue.send(b"later", delay=1000)
    await queue.receive(vt=500)
    path = tmp_path / "jobs.jsonl"
    assert "exported 4 messages" in (await inside("export", "jobs", "--file", str(path))).err
    exported = path.read_bytes()
    before = keyspace(server)
    assert (await inside("export", "jobs")).raw.splitlines()[1:] == exported.splitlines()[1:]
    await inside("export", "jobs", "--file", str(path), expect=2)  # it is there already
    assert keyspace(server) == before
    await inside("import", "copy", "--file", str(path), expect=1)
    keep = ("--keep-ids", "--keep-times", "--create")
    result = await inside("import", "copy", "--file", str(path), *keep)
    assert result.out == "imported 4 messages into copy\n"
    assert (await inside("export", "copy")).raw.splitlines()[1:] == exported.splitlines()[1:]
    assert (await rsmq.queue("copy").attributes()).vt == 50
    assert (await inside("import", "copy", "--file", str(path), *keep)).out.startswith("imported 0")
    assert "4 messages" in (await inside("import", "copy", "--file", str(path))).out
    assert (await rsmq.queue("copy").snapshot()).visible == 6


async def test_continued(cli, inside, rsmq, server, queue, tmp_path):
    """An import that ends early says where to go on, and so does an export."""
    await queue.send_many([str(number) for number in range(250)])
    path = tmp_path / "jobs.jsonl"
    await inside("export", "jobs", "--file", str(path))
    lines = path.read_bytes().splitlines(keepends=True)
    await rsmq.create_queue(qname="copy")
    result = await cli("import", "copy", input=b"".join([*lines[:230], b"{broken"]), expect=2)
    assert "imported 200 lines; go on with --skip 200" in result.err
    assert server.redis.zcard("rsmq:copy") == 199  # without the header
    assert "51" in (await inside("import", "copy", "--file", str(path), "--skip", "200")).out
    assert server.redis.zcard("rsmq:copy") == 250
    assert "--create" in (await cli("import", "new", "--create", input=lines[1], expect=2)).err
    last = json.loads(lines[100])
    place = f"{last['visible_at']}/{last['id']}"
    (tmp_path / "part").write_bytes(b"".join(lines[:101]))
    await inside("export", "jobs", "--file", str(tmp_path / "part"), "--after", place)
    assert (tmp_path / "part").read_bytes() == path.read_bytes()


async def test_interrupted(start, finish_cli, inside, server, queue, rsmq):
    """Ctrl-C in an import says where to go on: behind what is known to be stored."""
    await queue.send_many([str(number) for number in range(250)])
    lines = (await inside("export", "jobs")).raw.splitlines(keepends=True)
    await rsmq.create_queue(qname="copy")
    process = await start("import", "copy")
    for start_line, stored in ((0, 99), (100, 199)):
        process.stdin.writelines(lines[start_line : start_line + 100])
        await wait_until(lambda stored=stored: len(ids_in(server, "copy")) == stored)
    process.send_signal(signal.SIGINT)
    result = await finish_cli(process, expect=130)
    told = "aiorsmq: interrupted: imported {0} lines; go on with --skip {0}\n"
    assert result.err in (told.format(100), told.format(200))  # its reply may be on the way
