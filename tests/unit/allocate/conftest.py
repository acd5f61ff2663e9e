"""A module's network (its fixture `graph`), calibrated, and its sensitivity."""

from __future__ import annotations

import pytest

from subbyte.analysis.sensitivity import sensitivity
from subbyte.analysis.table import Sensitivity
from subbyte.ir import Graph
from subbyte.quantize.variants import Variants
from subbyte.recipes import load_recipe
from tests.unit.compress.networks import random_images


@pytest.fixture(scope="module")
def variants(graph: Graph) -> Variants:
    result = Variants(graph, load_recipe("w4a8"))
    result.calibrate([random_images(graph, 24)], lambda stage, done: None)
    return result


@pytest.fixture(scope="module")
def table(graph: Graph) -> Sensitivity:
    return sensitivity(Variants(graph, load_recipe("w4a8")), random_images(graph, 24))
