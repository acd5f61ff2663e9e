"""The tiny networks as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.hands import networks


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A palm detector and a landmark network."""
    return networks.write(tmp_path_factory.mktemp("hands"))
