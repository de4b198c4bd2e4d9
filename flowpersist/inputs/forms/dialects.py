"""What the strict forms of model providers take of JSON Schema.

Sources: OpenAI's guide to structured outputs and Anthropic's to strict tool use, as of November 2026, and the two
transformers that their users run: ``OpenAIJsonSchemaTransformer`` and ``GoogleJsonSchemaTransformer`` of pydantic-ai
2.68, ``transform_schema`` of anthropic 2.14.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

__all__ = ["ANTHROPIC", "GOOGLE", "OPENAI", "Dialect"]

_FORMATS: Final = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})


@frozen
class Dialect:
    """A subset of JSON Schema.

    - ``keywords``: those that are kept of a value's rules, beside types, properties, items, literals and unions.
    - ``formats``: the formats of texts that are kept.
    - ``optional``: whether a property may be left out; if not, it is null instead.
    - ``closed``: whether objects take no other properties than those that are named.
    - ``untyped``: whether a place may take any value.
    - ``recursive``: whether a definition may refer to itself.
    - ``lone_references``: whether nothing may stand beside a reference.
    - ``typed_literals``: whether ``type`` stands beside ``enum``.
    - ``const``: whether ``const`` is taken; if not, it is an enum of one value.
    - ``titles``: whether titles are taken.
    - ``min_items``: the largest ``minItems`` that is taken; None: any.
    - ``levels``, ``properties``, ``characters``, ``literals``: how many levels of nesting, properties, characters of
      names and literals, and literals; None: as many as there are.
    """

    name: str
    keywords: frozenset[str]
    formats: frozenset[str] = frozenset()
    optional: bool = False
    closed: bool = True
    untyped: bool = False
    recursive: bool = True
    lone_references: bool = True
    typed_literals: bool = True
    const: bool = True
    titles: bool = True
    min_items: int | None = None
    levels: int | None = None
    properties: int | None = None
    characters: int | None = None
    literals: int | None = None


_BOUNDS: Final = frozenset({"minimum", "maximum", "minItems", "maxItems"})
OPENAI: Final = Dialect(
    "OpenAI",
    _BOUNDS | {"pattern", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    _FORMATS,
    levels=10,
    properties=5_000,
    characters=120_000,
    literals=1_000,
)
ANTHROPIC: Final = Dialect(
    "Anthropic",
    frozenset({"minItems"}),
    _FORMATS | {"uri"},
    optional=True,
    recursive=False,
    typed_literals=False,
    min_items=1,
)
GOOGLE: Final = Dialect(
    "Google",
    _BOUNDS | {"minLength", "maxLength", "pattern", "minProperties", "maxProperties"},
    optional=True,
    closed=False,
    untyped=True,
    lone_references=False,
    const=False,
    titles=False,
)
