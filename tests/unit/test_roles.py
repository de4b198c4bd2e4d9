"""Who may do what: what an authorizer is asked, ``RoleAuthorizer``, and answers of principals that are no persons."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flowpersist import AwaitInput, ConfigurationError, Principal, Status, or_raise
from flowpersist.errors import PermissionDenied
from flowpersist.hub import RoleAuthorizer
from flowpersist.inputs.schedule import Escalation
from flowpersist.testing.hubs import open_test_hub, travel

ASK = AwaitInput("pay", "Pay it?", schema=bool)
ROLES = {"asker": {"suspend"}, "approver": {"answer", "claim", "resume"}, "auditor": {"history"}, "chief": {"*"}}
ANN = Principal("ann", roles=["asker", "approver"])
BOB = Principal("bob", roles=["approver"])
KINDS = ["model", "agent", "policy", "system"]


async def answer(hub, key, by):
    return await hub.answer(key, True, by=by)


async def resume(hub, key, by):
    return await hub.resume(key, True, by=by)


async def claim(hub, key, by):
    return await hub.claim(key, True, by=by)


async def run(hub, key, by):
    async with hub.running(key, True, by=by) as held:
        return held


ANSWERING = [answer, resume, claim, run]


def denied(result):
    return isinstance(result.failure(), PermissionDenied)


# --------------------------------------------------------------- what an authorizer is asked


async def test_an_authorizer_is_asked_with_the_wait_and_the_principal():
    asked = []

    def authorizer(verb, suspension, wait, principal):
        asked.append((verb, suspension.status, None if wait is None else wait.name, principal))
        return True

    ann = Principal("ann", name="Ann", issuer="idp", roles=["ops"], authenticated_at=datetime.now(UTC), method="otp")
    async with open_test_hub(authorizer=authorizer) as hub:
        new = or_raise(await hub.suspend(1, awaiting={"a": ASK, "b": ASK}, by=ann))
        or_raise(await hub.inspect(new.keys["b"], by="bob"))
        or_raise(await hub.answer(new.keys["a"], True, by=ann))
        or_raise(await hub.answer(new.id, True, by=ann))
        or_raise(await hub.history(new.id))
        held = or_raise(await hub.claim(new.id))
        or_raise(await hub.complete(held))
    assert asked == [
        ("suspend", Status.WAITING, None, ann),
        ("inspect", Status.WAITING, "b", Principal("bob")),
        ("answer", Status.WAITING, "a", ann),
        # By the id, the answer is for the only open wait.
        ("answer", Status.WAITING, "b", ann),
        ("history", Status.ANSWERED, None, None),
        ("claim", Status.ANSWERED, None, None),
        ("complete", Status.RUNNING, None, None),
    ]


async def test_a_claim_by_id_names_a_wait_only_where_it_brings_an_answer():
    asked = []

    def authorizer(verb, _suspension, wait, _principal):
        asked.append((verb, wait and wait.name))
        return True

    async with open_test_hub(authorizer=authorizer) as hub:
        new = or_raise(await hub.suspend(1, awaiting={"a": ASK, "b": ASK}, until="each"))
        or_raise(await hub.answer(new.keys["a"], True))
        or_raise(await hub.release(or_raise(await hub.claim(new.id))))
        or_raise(await hub.claim(new.id, True))
    assert [one for one in asked if one[0] == "claim"] == [("claim", None), ("claim", "b")]


async def test_an_authorizer_of_three_arguments_is_asked_with_the_subject():
    asked = []

    class Brief:
        async def __call__(self, verb, suspension, by):
            asked.append((verb, by))
            return True

    async with open_test_hub(authorizer=Brief()) as hub:
        or_raise(await hub.suspend(1, by=ANN))
        or_raise(await hub.suspend(1))
    assert asked == [("suspend", "ann"), ("suspend", None)]


async def test_the_trail_has_who_claimed_with_all_that_was_said_of_them():
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend(1, awaiting=ASK))
        or_raise(await hub.claim(new.key, True, by=BOB))
        assert or_raise(await hub.history(new.id))[-1].by == BOB


# --------------------------------------------------------------- RoleAuthorizer


async def test_roles_grant_verbs_and_each_refusal_has_an_entry():
    async with open_test_hub(authorizer=RoleAuthorizer(roles=ROLES)) as hub:
        assert denied(await hub.suspend(1, awaiting=ASK, by=BOB))
        new = or_raise(await hub.suspend(1, awaiting=ASK, by=ANN))
        assert denied(await hub.cancel(new.key, by=BOB))
        assert denied(await hub.history(new.id, by=BOB))
        or_raise(await hub.answer(new.key, True, by=BOB))
        entries = or_raise(await hub.history(new.id, by=Principal("eve", roles=["auditor"])))
        assert [(one.verb, one.refusal, one.by.subject) for one in entries] == [
            ("suspend", None, "ann"),
            ("cancel", "permission-denied", "bob"),
            ("answer", None, "bob"),
        ]
        assert or_raise(await hub.query(by=BOB)).items == ()
        assert len(or_raise(await hub.query(by=ANN)).items) == 1


@pytest.mark.parametrize("give", ANSWERING)
@pytest.mark.parametrize("by_id", [False, True])
@pytest.mark.parametrize("who", [ANN, Principal("agent", roles=["approver"], on_behalf_of="ann")])
async def test_the_requester_is_not_the_approver(give, by_id, who):
    async with open_test_hub(authorizer=RoleAuthorizer(roles=ROLES)) as hub:
        new = or_raise(await hub.suspend(1, awaiting=ASK, by=ANN))
        key = new.id if by_id else new.key
        assert denied(await give(hub, key, who))
        assert or_raise(await hub.inspect(new.key, by=ANN)).status is Status.WAITING
        or_raise(await give(hub, key, BOB))


async def test_self_approval_is_a_choice():
    async with open_test_hub(authorizer=RoleAuthorizer(roles=ROLES, self_approval=True)) as hub:
        new = or_raise(await hub.suspend(1, awaiting=ASK, by=ANN))
        or_raise(await hub.answer(new.key, True, by=ANN))


@pytest.mark.parametrize("give", ANSWERING)
async def test_nobody_answers_in_nobodys_name(give):
    async with open_test_hub(authorizer=RoleAuthorizer(roles=ROLES)) as hub:
        new = or_raise(await hub.suspend(1, awaiting=ASK, by=ANN))
        assert denied(await give(hub, new.key, None))
        assert denied(await give(hub, new.id, None))


async def test_workers_claim_in_nobodys_name():
    async with open_test_hub(authorizer=RoleAuthorizer(roles=ROLES)) as hub:
        new = or_raise(await hub.suspend(1, awaiting={"a": ASK, "b": ASK}, until="each", by=ANN))
        or_raise(await hub.answer(new.keys["a"], True, by=BOB))
        (held,) = or_raise(await hub.claim_due())
        or_raise(await hub.release(held))


async def test_assignees_and_groups_answer_and_nobody_else():
    ask = AwaitInput("pay", "?", assignees=["cy"], groups=["finance"])
    async with open_test_hub(authorizer=RoleAuthorizer(roles=ROLES)) as hub:
        new = or_raise(await hub.suspend(1, awaiting=ask, by=ANN))
        for one in (BOB, Principal("dan", roles=["chief"]), Principal("finance")):
            assert denied(await hub.answer(new.key, True, by=one))
        assert or_raise(await hub.inspect(new.id, by="cy")).id == new.id
        assert denied(await hub.inspect(new.id, by="dan"))
        assert [len(or_raise(await hub.query(by=one)).items) for one in ("cy", "dan")] == [1, 0]
        or_raise(await hub.answer(new.key, True, by=Principal("eve", roles=["finance"])))


async def test_those_whom_a_question_was_escalated_to_answer_it():
    hour = timedelta(hours=1)
    ask = AwaitInput("pay", "?", assignees=["cy"], escalation=(Escalation(after=hour, to=("dan",)),), timeout=10 * hour)
    async with open_test_hub(authorizer=RoleAuthorizer(roles=ROLES)) as hub:
        new = or_raise(await hub.suspend(1, awaiting=ask, by=ANN))
        assert denied(await hub.answer(new.key, True, by="dan"))
        travel(hub, 2 * hour)
        or_raise(await hub.answer(new.key, True, by="dan"))


async def test_tenants_stay_apart():
    mallory = Principal("mallory", roles=["chief", "tenant:other"])
    async with open_test_hub(authorizer=RoleAuthorizer(roles=ROLES)) as hub:
        acme = Principal("ann", roles=["chief", "tenant:acme"])
        assert denied(await hub.suspend(1, awaiting=ASK, tenant="acme", by=mallory))
        new = or_raise(await hub.suspend(1, awaiting=ASK, tenant="acme", by=acme))
        for refused in (
            await hub.inspect(new.key, by=mallory),
            await hub.answer(new.key, True, by=mallory),
            await hub.cancel(new.key, by=mallory),
            await hub.keys(new.id, by=mallory),
        ):
            assert denied(refused)
        assert or_raise(await hub.query(by=mallory)).items == ()
        or_raise(await hub.answer(new.key, True, by=Principal("bob", roles=["chief", "tenant:acme"])))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"roles": {"a": {"anwser"}}}, "verbs"),
        ({"roles": {"a": "answer"}}, "verbs"),
        ({"roles": {"": {"answer"}}}, "roles"),
        ({"roles": [("a", {"answer"})]}, "roles"),
        ({"everybody": "answer"}, "verbs"),
        ({"self_approval": 1}, "self_approval"),
        ({"tenants": {"ann": "acme"}}, "tenants"),
    ],
)
def test_an_invalid_option_is_named(options, named):
    with pytest.raises((ConfigurationError, TypeError), match=named):
        RoleAuthorizer(**options)


# --------------------------------------------------------------- no model answers for a person


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("give", ANSWERING)
@pytest.mark.parametrize("asked", [ASK, AwaitInput("pay", "?", assignees=["bot"]), AwaitInput("pay", "?", quorum=2)])
async def test_no_principal_of_another_kind_answers_for_a_person(kind, give, asked):
    """By any verb that answers, early, by key or by id, large or small; and each attempt has an entry."""
    bot = Principal("bot", kind=kind, on_behalf_of="ann")
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend(1, awaiting=asked))
        for key in (new.key, new.id):
            assert denied(await give(hub, key, bot))
        early = or_raise(await hub.reserve(asked))
        assert denied(await give(hub, early.key, bot))
        assert or_raise(await hub.inspect(new.id)).status is Status.WAITING
        assert or_raise(await hub.inspect(early.id)).open_waits
        refused = or_raise(await hub.history(early.id))[-1]
        assert (refused.refusal, refused.by) == ("permission-denied", bot)


@pytest.mark.parametrize("kind", KINDS)
async def test_no_large_answer_of_another_kind_is_stored(kind):
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend(1, awaiting=AwaitInput("text", "?", schema=str)))
        assert denied(await hub.answer(new.key, "x" * 500_000, by=Principal("bot", kind=kind)))
        assert or_raise(await hub.inspect(new.id)).status is Status.WAITING


async def test_a_question_for_models_takes_their_answer():
    async with open_test_hub(authorizer=RoleAuthorizer(roles=ROLES)) as hub:
        new = or_raise(await hub.suspend(1, awaiting=AwaitInput("pay", "?", answerable_by=["model"]), by=ANN))
        assert denied(await hub.answer(new.key, True, by=BOB))
        or_raise(await hub.answer(new.key, True, by=Principal("gpt", kind="model", roles=["approver"])))
