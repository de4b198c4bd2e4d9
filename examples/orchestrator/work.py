"""What the agents of this example share: the project, its tasks, and the names of signals."""

from __future__ import annotations

import os
from datetime import timedelta
from types import MappingProxyType
from typing import Final, TypedDict

from flowpersist import AwaitInput

__all__ = [
    "CODE",
    "COMPLETED",
    "LEASE",
    "ORDER",
    "PHASE",
    "QA_PASSED",
    "REJECTED",
    "SIGNED_OFF",
    "SPEC",
    "VERSIONS",
    "Task",
]

#: Set by the manager when a round of tasks is done, and cleared by QA with its verdict in one step.
COMPLETED: Final = "COMPLETED"
#: QA's verdicts: the modules that failed, or that all passed.
REJECTED: Final = "REJECTED"
QA_PASSED: Final = "QA_PASSED"
#: What the manager is at: the round and its modules. A manager that takes over goes on from here.
PHASE: Final = "PHASE"
SIGNED_OFF: Final = "SIGNED_OFF"

#: How long a task and a lock stay with an agent that has died. Agents at work renew them.
LEASE: Final = timedelta(seconds=float(os.environ.get("ORCHESTRATOR_LEASE", "10")))

#: What the manager and the coders take from the queue.
ORDER: Final = AwaitInput(id="project", prompt="Make this project", schema=bool)
CODE: Final = AwaitInput(id="code", prompt="Write this module", schema=bool)


class Task(TypedDict):
    """One module to write, as the manager queues it."""

    project: str
    module: str
    round: int


SPEC: Final = MappingProxyType(
    {
        "tokens": "tokens(text): the numbers and operators of a sum, such as 2+3*4, as a list of texts",
        "evaluate": "evaluate(tokens): its value; * and / come before + and -",
        "report": "report(text, value): one line such as 2+3*4 = 14",
    }
)

TOKENS = """\
import re


def tokens(text):
    return re.findall(r"[0-9]+|[-+*/]", text)
"""
#: Goes from left to right, so that QA rejects it.
EVALUATE_FIRST = """\
from operator import add, mul, sub, truediv

OPERATORS = {"+": add, "-": sub, "*": mul, "/": truediv}


def evaluate(tokens):
    value = int(tokens[0])
    for operator, number in zip(tokens[1::2], tokens[2::2]):
        value = OPERATORS[operator](value, int(number))
    return value
"""
EVALUATE_SECOND = """\
from operator import add, mul, sub, truediv

OPERATORS = {"+": add, "-": sub, "*": mul, "/": truediv}


def evaluate(tokens):
    terms, signs = [int(tokens[0])], []
    for operator, number in zip(tokens[1::2], tokens[2::2]):
        if operator in "*/":
            terms[-1] = OPERATORS[operator](terms[-1], int(number))
        else:
            signs.append(operator)
            terms.append(int(number))
    value = terms[0]
    for sign, term in zip(signs, terms[1:]):
        value = OPERATORS[sign](value, term)
    return value
"""
REPORT = """\
def report(text, value):
    return f"{text} = {value}"
"""
#: What the coders write in each round: they stand in for a model.
VERSIONS: Final = MappingProxyType(
    {"tokens": (TOKENS,), "evaluate": (EVALUATE_FIRST, EVALUATE_SECOND), "report": (REPORT,)}
)
