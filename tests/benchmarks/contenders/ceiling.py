"""The most there can be: redis-benchmark with a bare PING, or with this library's own script and 64
messages a call.
"""

import csv
import resource
import subprocess
import sys
import time

from aiorsmq._server.lua import load
from redis import Redis
from shared import BODY, TASK, check_left, measured

BATCH = 64
KEYS = ("rsmq:benchmark", "rsmq:benchmark:Q")


def ping() -> None:
    with measured(resource.RUSAGE_CHILDREN) as said:
        said["ended"] = said["started"] + benchmark(TASK.messages, "-c", TASK.callers, "PING")


def send() -> None:
    with Redis(port=TASK.port) as redis:
        redis.hset(KEYS[1], mapping={"vt": 3600, "delay": 0, "maxsize": 65536})
        sha1 = redis.script_load(load("send").source)
        with measured(resource.RUSAGE_CHILDREN) as said:
            us = time.time_ns() // 1000  # the script takes the time of ids for a second only
            call = ["EVALSHA", sha1, len(KEYS), *KEYS, "first", "each", us, "rsmq:rt:benchmark", ""]
            for position in range(BATCH):  # redis-benchmark puts 12 random digits into each id
                call += [f"{us:016}"[-10:] + f"{position:010}__rand_int__", BODY]
            random = ("-r", 2**31 - 1)
            ns = benchmark(TASK.messages // BATCH, "-c", 1, "-P", 4, *random, *call)
            said["ended"] = said["started"] + ns
        check_left(int(redis.hget(KEYS[1], "totalsent") or 0))
        if redis.zcard(KEYS[0]) < TASK.messages - 10:  # two of them may be alike
            sys.exit("ids were not unique")


def benchmark(requests: int, *options: object) -> int:
    """Run it, and return the nanoseconds that the requests took."""
    command = ["redis-benchmark", "-p", TASK.port, "--csv", "-n", requests, *options]
    done = subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True
    )
    _, (_, a_second, *_) = csv.reader(done.stdout.splitlines())
    return round(requests / float(a_second) * 1e9)


{"ping": ping, "send": send}[TASK.what]()
