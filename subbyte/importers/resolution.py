"""An imported network on images of another size than it was made for."""

from __future__ import annotations

from dataclasses import replace

from subbyte.importers.table import Imported
from subbyte.passes.resized import resized


def at_resolution(network: Imported, height: int, width: int) -> Imported:
    """The network, float32, with images of so many pixels in front of it; the provenance says from which size
    under "resolution". Raises InputError as passes.resized does."""
    before = network.preprocessing
    return replace(
        network,
        graph=resized(network.graph, height, width),
        preprocessing=replace(before, height=height, width=width),
        provenance={**network.provenance, "resolution": {"made_for": [before.height, before.width]}},
    )
