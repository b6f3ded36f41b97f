"""Run against an installed wheel: everything is in it, and nothing but its two dependencies is
needed.
"""

import os
from importlib.metadata import requires, version
from importlib.resources import files
from pathlib import Path

import aiorsmq

package = files("aiorsmq")
assert "site-packages" in str(package), package
assert (package / "py.typed").is_file()
scripts = {path.name for path in Path(__file__).parents[1].glob("aiorsmq/_lua/*.lua")}
assert {script.name for script in (package / "_lua").iterdir()} >= scripts > set()
assert aiorsmq.__version__ == version("aiorsmq-realtime") != "0+unknown"
needed = sorted(name for name in requires("aiorsmq-realtime") or [] if "extra" not in name)
assert [name.split(">")[0] for name in needed] == ["anyio", "redis[hiredis]"], needed
aiorsmq.AsyncRSMQ()
os.environ["PATH"] = ""  # a server there would do for `embedded://`
for of_an_extra in (
    lambda: aiorsmq.AsyncRSMQ.from_url("embedded://"),
    lambda: aiorsmq.MsgspecCodec(int),
    lambda: aiorsmq.PydanticCodec(int),
):
    try:
        of_an_extra()
    except aiorsmq.ExtraNotInstalled as error:
        print(f"aiorsmq-realtime {version('aiorsmq-realtime')}: {error}")
    else:
        raise AssertionError("what needs an extra works without it")
