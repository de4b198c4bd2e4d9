"""The Lua scripts, each in its own file. A server that does not know a script yet is sent its text."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Final

from attrs import frozen

from flowpersist.backends._redis.connections import Command

__all__ = ["BUILD", "DECLARE", "PAGE", "PUT", "REMOVE", "SCHEMA", "Call", "Script"]


@frozen
class Script:
    """A script's text, and the digest by which a server that has run it knows it."""

    text: str
    digest: str

    def call(self, keys: Sequence[bytes], *arguments: bytes | str | int) -> Call:
        """Make a call; all keys must have one tag."""
        return Call(self, (len(keys), *keys, *arguments), keys[0])


@frozen
class Call:
    """A script with its arguments, and a key that selects the node of a cluster."""

    script: Script
    arguments: Command
    key: bytes

    @property
    def by_digest(self) -> Command:
        """The command for a server that knows the script."""
        return ("EVALSHA", self.script.digest, *self.arguments)

    @property
    def by_text(self) -> Command:
        """The command for any server, which knows the script from then on."""
        return ("EVAL", self.script.text, *self.arguments)


def _loaded(name: str) -> Script:
    folder = files("flowpersist.backends._redis")
    text = "\n".join((folder / file).read_text(encoding="utf-8") for file in ("common.lua", f"{name}.lua"))
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


PUT: Final = _loaded("put")
REMOVE: Final = _loaded("remove")
PAGE: Final = _loaded("page")
SCHEMA: Final = _loaded("schema")
DECLARE: Final = _loaded("declare")
BUILD: Final = _loaded("build")
