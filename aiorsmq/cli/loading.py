"""Handlers and codecs by their names, as programs are told of them. Needs no extra."""

import difflib
import importlib
from typing import Any, Final

from ..codecs import BYTES, JSON, TEXT, Codec
from ..errors import InvalidParameterValue

CODECS: Final[dict[str, Codec[Any]]] = {"TEXT": TEXT, "BYTES": BYTES, "JSON": JSON}


class ModuleFailed(Exception):
    """A module that was to be imported raised an exception, which is the cause of this one."""

    def __init__(self, module: str, error: Exception) -> None:
        super().__init__(module, error)
        self.module = module
        self.error = error

    def __str__(self) -> str:
        return f"module {self.module!r} raises {type(self.error).__name__}: {self.error}"


def load(parameter: str, name: str) -> Any:
    """What a name stands for: "shop.jobs:handle", "shop.jobs.handle" or "shop.jobs:Jobs.handle".

    Raises InvalidParameterValue, which names the parameter, if there is no such thing; ModuleFailed
    if its module raises.
    """
    module, colon, path = name.partition(":")
    if not colon:
        module, _, path = name.rpartition(".")
    if not all(part.isidentifier() for part in (*module.split("."), *path.split("."))):
        reason = 'must be a module and a name in it, as "shop.jobs:handle"'
        raise InvalidParameterValue(parameter, name, reason)
    value: Any = _import(parameter, name, module)
    for part in path.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            close = difflib.get_close_matches(part, dir(value), 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            reason = f"module {module!r} has no {path!r}{hint}"
            raise InvalidParameterValue(parameter, name, reason) from None
    return value


def load_codec(name: str) -> Codec[Any]:
    """The codec TEXT, BYTES or JSON, or the object that a name stands for."""
    codec: Any = CODECS.get(name.upper())
    if codec is None:
        if not set(name) & set(".:"):
            reason = 'must be TEXT, BYTES, JSON, or a codec of yours, as "shop.codecs:ORDERS"'
            raise InvalidParameterValue("codec", name, reason)
        codec = load("codec", name)
    methods = (getattr(codec, "encode", None), getattr(codec, "decode", None))
    if isinstance(codec, type) or not all(map(callable, methods)):
        raise InvalidParameterValue("codec", name, "must be an object with `encode` and `decode`")
    return codec


def _import(parameter: str, name: str, module: str) -> object:
    try:
        return importlib.import_module(module)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module}.".startswith(f"{missing}."):
            raise InvalidParameterValue(parameter, name, f"no module {missing!r}") from None
        raise ModuleFailed(module, error) from error
