"""Refunds that a person approves, with Celery: a task asks and ends, and another one pays what was approved.

No worker waits for the person: between the two tasks the refund is a record in the store. ::

    pip install 'flowpersist[redis]' celery
    export CELERY_BROKER=redis://localhost FLOWPERSIST_URL=redis://localhost
    celery -A celery_refunds worker --beat          # in the directory of this file

``flowpersist list`` shows what waits, and ``flowpersist answer KEY --value true`` answers.
"""

from __future__ import annotations

import os
import threading
from functools import cache

from celery import Celery

from flowpersist import AwaitInput
from flowpersist.blocking import Hub, open_hub

app = Celery("refunds", broker=os.environ.get("CELERY_BROKER", "memory://"))
app.conf.beat_schedule = {"pay": {"task": "refunds.pay_approved", "schedule": 10}}
_opening = threading.Lock()


@cache
def _opened() -> Hub:
    return open_hub(os.environ.get("FLOWPERSIST_URL", "sqlite:///refunds.db"))


def hub() -> Hub:
    """The hub of this process, for all threads. It is opened by the first task, and so after the worker has forked."""
    with _opening:
        return _opened()


@app.task(name="refunds.ask", autoretry_for=(ConnectionError,), soft_time_limit=30)
def ask(order: str, amount: int) -> str:
    """Store the refund until a person has decided, and send the key to that person. A repeated task asks once.

    Where the soft time limit interrupts a verb, it is cancelled, and the next task can use the hub.
    """
    question = AwaitInput(id="refund", prompt=f"Refund {amount} for order {order}?", schema=bool)
    asked = hub().suspend({"order": order, "amount": amount}, awaiting=question, idempotency_key=order)
    send(str(asked.key), question.prompt)
    return str(asked.id)


@app.task(name="refunds.pay_approved", soft_time_limit=60)
def pay_approved(limit: int = 20) -> int:
    """Pay what was approved since. Several workers share the work: each refund is claimed by one of them."""
    runs = hub().claim_due(limit=limit, expect=dict)
    for run in runs:
        # The key of the effect: after a crash the refund runs again, and the bank sees that it has it already.
        effect = f"{run.suspension.id}/{run.sequence}"
        hub().complete(run, {"paid": pay(run.state, effect) if run.answer else 0})
    return len(runs)


def send(key: str, prompt: str) -> None:
    """Where the person would get a mail; the key opens this refund alone."""
    print(f"{prompt} {key}")


def pay(refund: dict[str, object], effect: str) -> object:
    """Where the bank would be called, with ``effect`` as the idempotency key."""
    print(f"paying {refund['amount']} for {refund['order']} as {effect}")
    return refund["amount"]
