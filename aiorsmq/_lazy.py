"""A package whose names are imported at the first use of one of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module


def names_of(source: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package that has the names of one of its modules.

    Submodules that the module imports become attributes of the package too, as ever.
    """
    package = source.rpartition(".")[0]

    def get(name: str) -> object:
        is_special = name.startswith("__") and name not in ("__all__", "__version__")
        if not is_special:  # what Python asks every module for is no reason to import anything
            names = vars(import_module(source))
            namespace = vars(sys.modules[package])
            if name in names:
                namespace.setdefault(name, names[name])  # no second call for this name
            if name in namespace:
                return namespace[name]
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def list_names() -> list[str]:
        names = vars(import_module(source))["__all__"]
        return sorted({*vars(sys.modules[package]), *names})

    return get, list_names
