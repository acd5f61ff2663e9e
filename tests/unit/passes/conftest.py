"""Random graphs and what is checked of passes, as fixtures."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from subbyte.ir import Graph
from tests.unit.passes import drafts


@pytest.fixture
def draft() -> type[drafts.Draft]:
    return drafts.Draft


@pytest.fixture
def random_graph() -> Callable[[int], Graph]:
    return drafts.random_graph


@pytest.fixture
def equal() -> Callable[[Graph, Graph], bool]:
    return drafts.equal


@pytest.fixture
def check_pass() -> Callable[..., Graph]:
    return drafts.check_pass
