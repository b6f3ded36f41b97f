"""The programs in docs/operations/servers.md run on sets of servers, as the page says."""

import subprocess
import sys

from docs.page import DOCS, blocks
from support import PATIENCE

PAGE = DOCS / "operations" / "servers.md"
BLOCKS = [block for block in blocks(PAGE) if block.language == "python"]
PROGRAMS = {block.name: block.text for block in BLOCKS if block.name}
BEHIND_SENTINELS = "redis+sentinel://s1:26379,s2:26379,s3:26379/mymaster"


def printed(program, example, url):
    """What a program of the page prints at a URL that stands for the page's."""
    assert example in program
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program.replace(example, url)],
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_sentinel(sentinels):
    """Behind sentinels a message is sent and received, and a send is confirmed."""
    assert printed(PROGRAMS["behind_sentinel.py"], BEHIND_SENTINELS, sentinels.url) == "hello\n"
    assert printed(PROGRAMS["confirmed.py"], BEHIND_SENTINELS, sentinels.url) == "confirmed: 32\n"


def test_cluster(cluster):
    """In a cluster, too; and the program with partitions prints there what the page shows."""
    example = "redis+cluster://n1:6379,n2:6379"
    assert printed(PROGRAMS["in_a_cluster.py"], example, cluster.url) == "hello\n"
    (partitions,) = (block for block in BLOCKS if "PARTITIONS" in block.text)
    assert printed(partitions.text, "embedded://", cluster.url) == partitions.output


def test_all_are_tried():
    """No program with a name is left out."""
    assert PROGRAMS.keys() == {"behind_sentinel.py", "confirmed.py", "in_a_cluster.py"}
