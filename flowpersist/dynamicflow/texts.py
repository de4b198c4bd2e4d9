"""The text of values, for prompts and for the branches of a ``switch``."""

from __future__ import annotations

import json
from typing import NoReturn

from flowpersist.dynamicflow.budgets import MAX_FILLED_VALUES, OverBudgetError, Size
from flowpersist.dynamicflow.plain import PLAIN, WALK_ERRORS, finished, walk, walk_problem

__all__ = ["text_of"]


def text_of(value: object, most: int) -> str:
    """A value as text: text as it is, anything else as JSON. ``OverBudgetError`` if it takes more characters than the
    limit, or has no text.
    """
    try:
        shown = finished(walk(value, form=PLAIN, most=Size(MAX_FILLED_VALUES, most))).value
    except OverBudgetError:
        raise
    except WALK_ERRORS as error:
        raise OverBudgetError(walk_problem(error)) from None
    text = shown if isinstance(shown, str) else _json(shown)
    if len(text) > most:
        msg = f"takes more than {most} characters as text"
        raise OverBudgetError(msg)
    return text


def _json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=_refuse)
    except (TypeError, ValueError) as error:
        # Raised for values without a text (a number of 5,000 digits), and for keys that are not texts.
        msg = f"has no text ({type(error).__name__})"
        raise OverBudgetError(msg) from error


def _refuse(value: object) -> NoReturn:
    msg = f"has no text: it holds a value of class {type(value).__name__}, which JSON can't represent"
    raise OverBudgetError(msg)
