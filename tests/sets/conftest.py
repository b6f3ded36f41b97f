"""Sets of servers for tests, as the tests of one file share them.

AIORSMQ_TEST_SERVER names the binary of another server, as everywhere.
"""

import pytest

from sets.cluster import Cluster
from sets.sentinels import Sentinels


@pytest.fixture(scope="module")
def sentinels(request):
    """A primary, a replica and three sentinels. A test that disturbs them leaves them whole."""
    with Sentinels() as sentinels:
        yield from keep_logs(sentinels, request)


@pytest.fixture(scope="module")
def cluster(request):
    """Three primaries with a replica each. A test that disturbs them leaves them whole."""
    with Cluster() as cluster:
        yield from keep_logs(cluster, request)


def keep_logs(group, request):
    """Hand the set to the tests, and keep its logs if one of them fails."""
    failed = request.session.testsfailed
    yield group
    group.keeps_logs = request.session.testsfailed > failed
