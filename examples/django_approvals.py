"""Refunds that a person approves, in Django: one view asks, another takes the answer. No view is async.

::

    pip install 'flowpersist' django
    python examples/django_approvals.py runserver
    curl -d order=A-7 -d amount=120 http://localhost:8000/refunds           # gives the link for the person
    curl http://localhost:8000/refunds/df_susp_…                            # what is asked
    curl -d approved=yes -d by=ana http://localhost:8000/refunds/df_susp_…  # the answer, which pays

A process may end between the two: the key leads any process to the refund.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from functools import cache, wraps
from typing import Concatenate, ParamSpec

import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST

from flowpersist import AwaitInput, PersistenceError
from flowpersist.blocking import Hub, open_hub

P = ParamSpec("P")
_opening = threading.Lock()


@cache
def _opened() -> Hub:
    return open_hub(os.environ.get("FLOWPERSIST_URL", "sqlite:///refunds.db"))


def hub() -> Hub:
    """The hub of this process, for all threads. It is opened by the first request, and so after the server has forked.

    The end of the process closes it.
    """
    with _opening:
        return _opened()


def problems(
    view: Callable[Concatenate[HttpRequest, P], HttpResponse],
) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """Answer an error of flowpersist by its status and its problem document (RFC 9457), which holds no secret."""

    @wraps(view)
    def wrapped(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except PersistenceError as error:
            return JsonResponse(error.to_problem(), status=error.http_status, content_type="application/problem+json")

    return wrapped


@require_POST
@problems
def ask(request: HttpRequest) -> HttpResponse:
    """Store the refund until a person has decided. The same order asks once."""
    order, amount = str(request.POST["order"]), int(str(request.POST["amount"]))
    question = AwaitInput(id="refund", prompt=f"Refund {amount} for order {order}?", schema=bool)
    asked = hub().suspend({"order": order, "amount": amount}, awaiting=question, idempotency_key=order)
    return JsonResponse({"link": f"/refunds/{asked.key}"}, status=202)


@require_http_methods(["GET", "POST"])
@problems
def decide(request: HttpRequest, key: str) -> HttpResponse:
    """Show the question; with an answer, take the refund and pay. A second answer is refused and told who was first."""
    if request.method == "GET":
        (wait,) = hub().inspect(key).waits
        return JsonResponse({"prompt": wait.awaiting.prompt if wait.awaiting else None, "status": str(wait.status)})
    approved, by = request.POST["approved"] == "yes", str(request.POST["by"])
    with hub().running(key, approved, by=by, expect=dict) as run:
        # The key of the effect: after a crash the refund runs again, and the bank sees that it has it already.
        paid = pay(run.state, f"{run.suspension.id}/{run.sequence}") if run.answer else 0
        hub().complete(run, {"paid": paid})
    return JsonResponse({"paid": paid, "approved": approved})


def pay(refund: dict[str, object], effect: str) -> object:
    """Where the bank would be called, with ``effect`` as the idempotency key."""
    print(f"paying {refund['amount']} for {refund['order']} as {effect}")
    return refund["amount"]


urlpatterns = [path("refunds", ask), path("refunds/<str:key>", decide)]

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["localhost", "testserver"],
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "only for this example"),
    LOGGING_CONFIG=None,
)
django.setup()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
