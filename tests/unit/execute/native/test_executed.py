"""What of a plan counts as multiplied."""

from __future__ import annotations

from subbyte.execute.native.executed import executed_macs


def test_products_of_blocks_that_are_skipped_do_not_count() -> None:
    assert executed_macs({"executed_weights": "int8", "macs": 100}) == 100
    assert executed_macs({"executed_weights": "int4+4x32:25", "macs": 100}) == 25
    assert executed_macs({"executed_weights": "int16 (Winograd)", "macs": 100}) == 100
    assert executed_macs({"executed_weights": "", "macs": 0}) == 0
