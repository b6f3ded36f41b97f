"""Prints docs/reference/cli.md: each command of `aiorsmq` with its options."""

import re
import sys

from aiorsmq.cli.app import new_app

INTRODUCTION = """\
# The command line

Each command of `aiorsmq` and its options, as `aiorsmq COMMAND --help` prints them.
[The command line](../operations/cli.md) shows how to use them; the pip extra `cli` installs them.
A *DURATION* is a number of seconds, or has units: `90`, `250ms`, `15m`, `1h30m`, `7d`.
"""
SERVER = ("--url", "--ns", "--deadline")
"""The options of the server, which nearly all commands have."""


def page() -> str:
    text = new_app("").generate_docs(usage_name="aiorsmq")
    text = re.sub(r"^(aiorsmq \S+) -m \w+", r"\1", text, flags=re.MULTILINE)  # as pytest runs it
    help_text = re.search(r"```\n\n(Look .*?)\n\n## Table", text, re.DOTALL)[1]
    groups = re.findall(r"^\*\*([^*]+)\*\*:\n\n((?:\* \[`.*\n)+)", text, re.MULTILINE)
    sections = dict(
        re.findall(r"^## aiorsmq (\S+)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    )
    server_options = dict(options(sections["ls"]))
    parts = [INTRODUCTION, help_text, "## The server", "The options of nearly all commands:"]
    parts.append("\n".join(server_options[name] for name in SERVER))
    for title, listed in groups:
        names = re.findall(r"^\* \[`(.*?)`\]", listed, re.MULTILINE)
        parts += [f"## {'Completion' if title == 'Commands' else title}"]
        for name in names:
            parts += [f"### aiorsmq {name}", *command(sections[name])]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def command(section: str) -> list[str]:
    """The parts of a command's section: its usage, description and own options."""
    description, _, _ = section.partition("**Parameters**:")
    description = re.sub(r"```console\n(.*)\n```", r"`\1`", description)
    described = dict(options(section))
    listed = [text for name, text in described.items() if name not in SERVER]
    asks_server = SERVER[0] in described
    parts = [description, "\n".join(listed)]
    if asks_server:
        parts.append("And [the options of the server](#the-server).")
    return [part for part in parts if part]


def options(section: str) -> list[tuple[str, str]]:
    """The options of a command by their first names, each in one line."""
    _, _, listed = section.partition("**Parameters**:")
    listed = listed.replace(" *[default: False]*", "")  # of flags
    items = re.findall(r"^\* (.*(?:\n(?!\* |\n).*)*)", listed, re.MULTILINE)
    lines = [re.sub(r"\s+", " ", item).strip() for item in items]
    return [(re.match(r"`([\w-]+)", line)[1], f"- {line}") for line in lines]


if __name__ == "__main__":
    sys.stdout.write(page())
