"""Early refusals: bytes in flight, operations at once."""

import pytest

from elacsym.errors import Overloaded, PayloadTooLarge
from elacsym.server.limits import BodyAllowance, ByteBudget, Gate


def test_the_budget_refuses_what_would_pass_it_and_keeps_its_account():
    budget = ByteBudget(100)
    budget.take(60)
    with pytest.raises(Overloaded):
        budget.take(41)
    assert budget.bytes_held == 60
    budget.take(40)
    budget.give_back(100)
    assert budget.bytes_held == 0


def test_an_allowance_gives_back_all_that_it_took():
    budget = ByteBudget(100)
    one, other = BodyAllowance(budget, 50), BodyAllowance(budget, 50)
    one.take(30)
    one.take(20)
    other.take(10)
    one.release()
    assert budget.bytes_held == 10
    with pytest.raises(PayloadTooLarge, match="51"):
        one.check(51, "a body")


def test_the_gate_lets_in_as_many_as_it_has_places():
    gate = Gate(1, "queries")
    with gate.passage(), pytest.raises(Overloaded, match="queries"), gate.passage():
        raise AssertionError("no second place")
    with pytest.raises(ValueError), gate.passage():
        raise ValueError
    with gate.passage():
        pass
