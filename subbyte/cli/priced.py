"""What a network costs on a device, layer by layer: `subbyte inspect --target`."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from subbyte.cli.console import show
from subbyte.device import Cost, find_target
from subbyte.device.network import Asked, as_quantized, asked, price
from subbyte.ir import Graph
from subbyte.quant.format import FP32
from subbyte.system.units import size_text


def priced(graph: Graph, name: str, rate: float) -> dict[str, Any]:
    """Layers and sums of a network on the device of that name, as JSON values. rate: images a second.

    A float32 network on a device without floating point is priced as if it were quantized to 8 bits.
    Raises InputError if there is no such device, or for a layer that it does not run.
    """
    target, rows, note = find_target(name), asked(graph), ""
    target.prepare({"": graph})
    if any(r.weights == FP32 and not target.supports(r.layer, r.weights, r.activations) for r in rows):
        rows, note = as_quantized(graph), "priced as if quantized to 8 bits; the file is float32"
    total = price(target, rows)
    return {
        "target": target.name,
        "note": note,
        "macs": sum(row.layer.macs for row in rows),
        "moved_bytes": total.moved,
        "ms": total.time,
        "mj": total.energy,
        "images_per_second": rate,
        "busy": 1e-3 * total.time * rate,
        "mw": total.power(rate),
        "layers": [_row(row, cost) for row, cost in zip(rows, total.costs, strict=True)],
    }


def _row(row: Asked, cost: Cost) -> dict[str, Any]:
    return {
        "name": row.name,
        "op": row.layer.op,
        "weights": None if row.weights is None else str(row.weights),
        "activations": str(row.activations),
        "macs": row.layer.macs,
        "moved_bytes": cost.moved,
        "cycles": cost.cycles,
        "utilization": cost.utilization,
        "ms": cost.time,
        "mj": cost.energy,
        "bound": cost.bound,
    }


def show_priced(found: dict[str, Any]) -> None:
    """A table of the layers, and the sums below it."""
    table = Table("layer", "operation", "formats", box=None)
    for heading in ("MMAC", "moved, B", "cycles", "used", "ms", "mJ"):
        table.add_column(heading, justify="right")
    table.add_column("waits for")
    for row in found["layers"]:
        table.add_row(
            row["name"],
            row["op"],
            " ".join(filter(None, (row["weights"], row["activations"]))),
            f"{row['macs'] / 1e6:.2f}" if row["macs"] else "",
            str(row["moved_bytes"] or ""),
            "" if not row["cycles"] else f"{row['cycles']:.0f}",
            f"{100 * row['utilization']:.0f} %" if row["utilization"] else "",
            f"{row['ms']:.4f}" if row["ms"] else "",
            f"{row['mj']:.5f}" if row["mj"] else "",
            row["bound"] or "",
        )
    sums = Table(show_header=False, box=None)
    for name, text in _sums(found).items():
        sums.add_row(name, text)
    show(table, "", sums)


def _sums(found: dict[str, Any]) -> dict[str, str]:
    rate, busy = found["images_per_second"], found["busy"]
    mw = "" if found["mw"] is None else f"{found['mw']:.1f} mW"
    share = f"{100 * busy:.0f} % busy" if busy <= 1.0 else "more than the device can do"
    sums = {
        "target": found["target"],
        "note": found["note"],
        "work": f"{found['macs'] / 1e6:.1f} MMAC, {size_text(found['moved_bytes'])} to and from main memory",
        "an image": f"{found['ms']:.3f} ms" + ("" if found["mj"] is None else f", {found['mj']:.4f} mJ"),
        f"{rate:g} images a second": ", ".join(filter(None, (mw, share))),
    }
    return {name: text for name, text in sums.items() if text}
