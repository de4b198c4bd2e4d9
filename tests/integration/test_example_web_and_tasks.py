"""The examples for synchronous code: a Django view and a Celery task, each in its framework's own test client."""

from __future__ import annotations

import importlib.util
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def approvals():
    return loaded("django_approvals")


@pytest.fixture(scope="module")
def refunds():
    with warnings.catch_warnings():
        # Celery's own, of what it imports.
        warnings.simplefilter("ignore")
        return loaded("celery_refunds")


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWPERSIST_URL", f"sqlite:///{tmp_path}/refunds.db")


@pytest.fixture
def client(approvals, store):
    from django.test import Client  # noqa: PLC0415 - needs the settings of the example

    yield Client()
    approvals.hub().close()
    approvals._opened.cache_clear()


def test_a_view_asks_and_another_pays_once(client, capsys):
    asked = client.post("/refunds", {"order": "A-7", "amount": "120"})
    assert asked.status_code == 202
    link = asked.json()["link"]
    assert client.post("/refunds", {"order": "A-7", "amount": "120"}).json()["link"] == link
    assert client.get(link).json() == {"prompt": "Refund 120 for order A-7?", "status": "open"}
    done = client.post(link, {"approved": "yes", "by": "ana"})
    assert (done.status_code, done.json()) == (200, {"paid": 120, "approved": True})
    again = client.post(link, {"approved": "yes", "by": "ben"})
    assert again.status_code == 409
    assert again["content-type"] == "application/problem+json"
    assert again.json()["title"] == "AlreadyResumed"
    assert capsys.readouterr().out.count("paying 120 for A-7") == 1


def test_a_wrong_key_is_a_problem(client):
    answer = client.get("/refunds/nosuch")
    assert (answer.status_code, answer.json()["title"]) == (404, "KeyValidationError")


def test_requests_of_many_threads_have_one_winner(client):
    from django.test import Client  # noqa: PLC0415 - needs the settings of the example

    link = client.post("/refunds", {"order": "A-8", "amount": "5"}).json()["link"]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: Client().post(link, {"approved": "yes", "by": "ana"}).status_code, range(6)))
    assert answers.count(200) == 1
    assert set(answers) <= {200, 409}


def test_a_task_asks_and_another_pays_what_was_approved(refunds, store, capsys):
    """In a Celery worker of several threads, with its broker in memory."""
    from celery.contrib.testing.worker import start_worker  # noqa: PLC0415 - imports much

    sent = []
    refunds.send = lambda key, prompt: sent.append((key, prompt))
    refunds.app.conf.result_backend = "cache+memory://"
    with start_worker(refunds.app, pool="threads", concurrency=4, perform_ping_check=False, shutdown_timeout=30):
        asked = [refunds.ask.delay(f"B-{number}", number) for number in range(3)]
        assert len({one.get(timeout=20) for one in asked}) == 3
        assert refunds.ask.delay("B-0", 0).get(timeout=20) == asked[0].get(timeout=20)
        by_prompt = {prompt: key for key, prompt in sent}
        refunds.hub().answer(by_prompt["Refund 1 for order B-1?"], value=True, by="ana")
        refunds.hub().answer(by_prompt["Refund 2 for order B-2?"], value=False, by="ana")
        paid = [refunds.pay_approved.delay() for _ in range(3)]
        assert sum(one.get(timeout=20) for one in paid) == 2
    refunds.hub().close()
    refunds._opened.cache_clear()
    assert capsys.readouterr().out.count("paying") == 1
    assert [one for one in threading.enumerate() if one.name == "flowpersist hub"] == []
