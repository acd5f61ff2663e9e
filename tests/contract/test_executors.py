"""Every executor of the table keeps the contract."""

from __future__ import annotations

import pytest

from subbyte.execute import EXECUTORS
from tests.contract.executor_suite import CASES


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", EXECUTORS)
def test_an_executor_keeps_the_contract(name: str, case: str) -> None:
    for module in EXECUTORS[name].needs:
        pytest.importorskip(module)
    CASES[case](EXECUTORS[name])
