"""Families of ready tools for an agent: what it calls to ask a person, with the question as the model's argument."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flowpersist.inputs.await_input import AwaitInput
from flowpersist.tools.factory import await_input
from flowpersist.tools.schemas import Schema, record

__all__ = ["customer", "development", "human_in_the_loop"]


def _texts(**described: str) -> Schema:
    """Parameters that are texts, all of them required."""
    return record({name: {"type": "string", "description": what} for name, what in described.items()}, list(described))


def human_in_the_loop(*, expires_in: timedelta | None = None) -> tuple[AwaitInput[Any], ...]:
    """``ask_human`` (a text), ``confirm_with_human`` (yes or no) and ``request_approval`` (a decision).

    - ``expires_in``: how long each waits; None: for ever.
    """
    question = _texts(question="What to ask, with all that the person needs to know")
    return (
        await_input.text("$question", id="ask_human", title="A question", parameters=question, expires_in=expires_in),
        await_input.confirmation(
            "$question", id="confirm_with_human", title="Yes or no?", parameters=question, expires_in=expires_in
        ),
        await_input.approval(
            "$what\n\n$why",
            id="request_approval",
            title="An approval",
            allow=("approve", "reject", "respond"),
            parameters=_texts(what="What is to be approved", why="Why it is needed"),
            expires_in=expires_in,
        ),
    )


def customer(*, expires_in: timedelta | None = None) -> tuple[AwaitInput[Any], ...]:
    """``ask_customer`` (a text), ``offer_times`` (a date and time) and ``rate_service`` (one to five).

    - ``expires_in``: how long each waits; None: for ever.
    """
    question = _texts(question="What to ask the customer, in the customer's language")
    return (
        await_input.text(
            "$question", id="ask_customer", title="A question", parameters=question, expires_in=expires_in
        ),
        await_input.moment(
            "$question", id="offer_times", title="An appointment", parameters=question, expires_in=expires_in
        ),
        await_input.rating(
            "$question", id="rate_service", title="Your opinion", parameters=question, expires_in=expires_in
        ),
    )


def development(*, expires_in: timedelta | None = None) -> tuple[AwaitInput[Any], ...]:
    """``review_change`` (a verdict on a change), ``choose_design`` (a text) and ``approve_deployment`` (a decision).

    - ``expires_in``: how long each waits; None: for ever.
    """
    return (
        await_input.document_review(
            "$summary",
            id="review_change",
            title="Review: $change",
            parameters=_texts(change="The change, such as a branch or a commit", summary="What it does and why"),
            expires_in=expires_in,
        ),
        await_input.text(
            "$question\n\n$options",
            id="choose_design",
            title="A decision on the design",
            parameters=_texts(question="What is to be decided", options="The options, with what speaks for each"),
            expires_in=expires_in,
        ),
        await_input.approval(
            "Deploy $version to $environment?\n\n$changes",
            id="approve_deployment",
            title="A deployment",
            allow=("approve", "reject"),
            explain_rejection=True,
            parameters=_texts(version="The version", environment="Where to", changes="What changes for users"),
            expires_in=expires_in,
        ),
    )
