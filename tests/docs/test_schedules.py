"""The files of how-to/scheduling.md, which cron, systemd and Kubernetes read."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import PurePath

import yaml

from docs.page import DOCS, blocks

BLOCKS = blocks(DOCS / "how-to" / "scheduling.md")
FILES = {block.name: block.text for block in BLOCKS if block.name}
COMMANDS = [
    shlex.split(command)
    for block in BLOCKS
    if block.language == "console"
    for command, _ in block.steps
]


def check_command(words):
    """It is one that the page's session runs, perhaps with the path of its program."""
    assert [PurePath(words[0]).name, *words[1:]] in COMMANDS


def unit(name):
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(FILES[name])
    return parser


def test_crontab():
    """A line has five times and a command that the page has run."""
    *settings, line = FILES["reports.crontab"].splitlines()[1:]
    assert all(re.fullmatch(r"[A-Z_]+=\S+", setting) for setting in settings)
    times, command = re.fullmatch(r"((?:[\d*]+ ){5})(.*) >/dev/null", line).groups()
    assert times == "0 3 * * * "
    check_command(shlex.split(command))


def test_systemd():
    """The timer's service runs a command that the page has run."""
    check_command(shlex.split(unit("reports.service")["Service"]["ExecStart"]))
    timer = unit("reports.timer")
    assert re.fullmatch(r"\*-\*-\* 03:00:00 [\w/]+", timer["Timer"]["OnCalendar"])
    assert timer["Install"]["WantedBy"] == "timers.target"


def test_kubernetes():
    """The CronJob's container runs a command that the page has run."""
    job = yaml.safe_load(FILES["cronjob.yaml"])
    assert job["kind"] == "CronJob"
    assert job["spec"]["schedule"] == "0 3 * * *"
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    check_command(container["command"])
