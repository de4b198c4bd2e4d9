"""SQLModel's rows in a state: ``register(types)``. Needs the extra ``sqlmodel``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from flowpersist.codec import TypeRegistry
from flowpersist.codec.discovery import classes_below
from flowpersist.errors import UnknownType
from flowpersist.integrations._packages import modules
from flowpersist.integrations._refusals import malformed, unsupported

__all__ = ["register"]


def register(types: TypeRegistry) -> TypeRegistry:
    """Add the classes of rows (``table=True``) that this process has defined by now to a registry.

    The registry is given back. A row is kept by the values of its columns, and comes back as a new row, which belongs
    to no session: ``session.merge(row)`` puts it into one. A row whose relationships are loaded, and one with columns
    that are expired and can't be read, are ``UnsupportedType``. A column that a stored row lacks takes its default.
    Models without a table need no call: ``TypeRegistry.tree`` takes them.
    ``ConfigurationError`` where sqlmodel is missing, or one of these classes is registered with other arguments.
    """
    sqlmodel, orm = modules("sqlmodel", "sqlmodel", "sqlalchemy.orm")
    found = TypeRegistry()
    for cls in classes_below(sqlmodel.SQLModel):
        if hasattr(cls, "__table__"):
            found.register(cls, encode=_columns_of(cls, orm), decode=_row_of(cls))
    types |= found
    return types


@cache
def _columns_of(cls: Any, orm: Any) -> Callable[[Any], object]:  # noqa: ANN401 - sqlmodel is imported when it is asked for
    def dump(row: Any) -> object:  # noqa: ANN401 - as above
        # Not by model_dump: that of an expired row is empty.
        loaded = [one.key for one in orm.class_mapper(cls).relationships if vars(row).get(one.key)]
        if loaded:
            what = f"a row of {cls.__qualname__} with rows of its relationship {loaded[0]!r}"
            raise unsupported(what, "keep these apart, and expunge or expire it, so that it holds its columns alone")
        try:
            values = {name: getattr(row, name) for name in cls.model_fields}
        except orm.exc.DetachedInstanceError as error:
            what = f"a row of {cls.__qualname__} with expired columns"
            raise unsupported(what, "refresh it before its session ends") from error
        return values, tuple(sorted(row.model_fields_set))

    return dump


@cache
def _row_of(cls: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - as above
    def load(parts: Any) -> Any:  # noqa: ANN401 - as above
        values, given = parts
        if type(values) is not dict or type(given) is not tuple:
            raise malformed("a row has no columns")
        unknown = set(values).difference(cls.model_fields)
        if unknown:
            message = (
                f"a stored row of {cls.__qualname__} has the column {min(map(str, unknown))!r}, which its class lacks"
            )
            raise UnknownType(f"{message}; register the class by itself, with encode=, decode= and upgrades=")
        row = cls(**values)
        object.__setattr__(row, "__pydantic_fields_set__", set(given))
        return row

    return load
