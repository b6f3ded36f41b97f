"""Ways to break the library, and the tests that must notice.

Each file is about one subject, and sorted by the script or the function that it breaks.
"""

from .breakage import Breakage, broken_files
from .cluster import CLUSTER
from .confirmed import CONFIRMED
from .connection import CONNECTION
from .consumers import CONSUMERS
from .dead_letters import DEAD_LETTERS
from .edits import DoesNotFit, Edit, LuaEdit, StringEdit
from .embedded import EMBEDDED
from .listener import LISTENER
from .looks import LOOKS
from .managed import MANAGED
from .repeats import REPEATS
from .scripts import SCRIPTS
from .sentinel import SENTINEL
from .shutdown import SHUTDOWN
from .values import VALUES
from .worker import WORKER

__all__ = ["BREAKAGES", "Breakage", "DoesNotFit", "Edit", "LuaEdit", "StringEdit", "broken_files"]

_SUBJECTS = (
    SCRIPTS,
    REPEATS,
    CONFIRMED,
    DEAD_LETTERS,
    CONNECTION,
    CLUSTER,
    LISTENER,
    MANAGED,
    CONSUMERS,
    WORKER,
    VALUES,
    EMBEDDED,
    LOOKS,
    SENTINEL,
    SHUTDOWN,
)
BREAKAGES = {name: breakage for subject in _SUBJECTS for name, breakage in subject.items()}
assert len(BREAKAGES) == sum(map(len, _SUBJECTS)), "two breakages have the same name"
