"""The profile of a neural processing unit: which tables and figures it has, and what each may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from subbyte.device.npu import FUSIONS, Array, Dram, Fusion, Mode, Npu, Precision, Sram
from subbyte.errors import GraphError, InputError
from subbyte.quant import Format
from subbyte.quant.format import parse_format
from subbyte.quant.sparsity import find_pattern

#: Activations of 16 bits: a device may run them, the engine does not.
UINT16 = Format("uint", 16)


class _Table:
    """A table of a profile: fields are taken one by one, and what is left in the end is an error.

    Every figure needs a text beside it, `<name>_source`, that says where it comes from; the rows of a list
    have one `source`.
    """

    def __init__(self, where: str, path: str, found: object) -> None:
        self.where, self.path = where, path
        if not isinstance(found, Mapping):
            raise InputError(f"{where}: {path} must be a table")
        self.fields = dict(found)

    def fail(self, name: str, what: str, value: object) -> InputError:
        dot = f"{self.path}.{name}" if self.path else name
        got = "it is missing" if value is None else f"not {value!r:.80}"
        return InputError(f"{self.where}: {dot} must be {what}; {got}")

    def take(self, name: str) -> Any:
        return self.fields.pop(name, None)

    def text(self, name: str) -> str:
        value = self.take(name)
        if not isinstance(value, str) or not value.strip():
            raise self.fail(name, "a text", value)
        return value

    def number(self, name: str, low: float, source: bool = True) -> float:
        value = self.take(name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < low or (low == 0.0 and name in _POSITIVE and value == 0.0):
            above = "above 0" if low == 0.0 and name in _POSITIVE else f"of at least {low:g}"
            raise self.fail(name, f"a number {above}", value)
        if source:
            self.text(f"{name}_source")
        return float(value)

    def whole(self, name: str, source: bool = True) -> int:
        value = self.take(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.fail(name, "a whole number of at least 1", value)
        if source:
            self.text(f"{name}_source")
        return value

    def table(self, name: str) -> _Table:
        return _Table(self.where, f"{self.path}.{name}" if self.path else name, self.take(name))

    def rows(self, name: str) -> list[_Table]:
        """The tables of a list; none where it is not there."""
        value = self.fields.pop(name, [])
        if not isinstance(value, list):
            raise self.fail(name, "a list of tables", value)
        path = f"{self.path}.{name}" if self.path else name
        return [_Table(self.where, f"{path}[{i}]", row) for i, row in enumerate(value)]

    def end(self) -> None:
        if self.fields:
            name = next(iter(self.fields))
            raise InputError(f"{self.where}: there is no field {self.path and self.path + '.'}{name:.80}")


#: Figures that cannot be 0.
_POSITIVE = frozenset(("frequency", "outputs", "rate", "width", "bandwidth", "factor"))


def read_npu(found: Mapping[str, Any], where: str) -> Npu:
    """The device of a profile's tables, called `where` in errors. InputError for the first field that is
    missing, unknown, of another type or impossible."""
    profile = _Table(where, "", found)
    profile.take("kind")
    name = profile.text("name")
    array, sram = _array(profile), _sram(profile.table("sram"))
    dram = _dram(profile.table("dram"))
    vector, layout, power = profile.table("vector"), profile.table("layout"), profile.table("power")
    result = Npu(
        name,
        array,
        vector.number("rate", 0.0),
        sram,
        dram,
        layout.whole("channels"),
        _precisions(profile),
        _sparsity(profile),
        _fused(profile.table("fusion")),
        power.number("static", 0.0),
        power.number("factor", 0.0),
    )
    for table in (vector, layout, power, profile):
        table.end()
    return result


def _array(profile: _Table) -> Array:
    table = profile.table("array")
    clock = table.number("frequency", 0.0)
    dense, depthwise = _modes(table, "dense"), _modes(table, "depthwise")
    outputs, launch = table.number("outputs", 0.0), table.number("launch", 0.0)
    block = table.take("block")
    fits = isinstance(block, list) and len(block) == 3
    if not fits or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in block):
        raise table.fail("block", "three whole numbers of at least 1: rows, columns, channels", block)
    table.text("block_source")
    table.end()
    return Array(clock, dense, depthwise, outputs, launch, (block[0], block[1], block[2]))


def _modes(table: _Table, name: str) -> tuple[Mode, ...]:
    rows = table.rows(name)
    if not rows:
        raise table.fail(name, "one mode or more", [])
    modes = []
    for row in rows:
        inputs = 1 if name == "depthwise" else row.whole("inputs", source=False)
        rest = (row.whole(field, source=False) for field in ("rows", "columns", "outputs", "taps", "cycles"))
        height, width, outputs, taps, cycles = rest
        row.text("source")
        row.end()
        modes.append(Mode(height, width, outputs, inputs, taps, cycles))
    return tuple(modes)


def _sram(table: _Table) -> Sram:
    result = Sram(
        table.whole("size"), table.whole("buffer"), table.number("width", 0.0), table.number("energy", 0.0)
    )
    table.end()
    if result.buffer >= result.size:
        raise table.fail("buffer", f"less than the size, {result.size}", result.buffer)
    return result


def _dram(table: _Table) -> Dram:
    prefetch = table.take("prefetch")
    if not isinstance(prefetch, bool):
        raise table.fail("prefetch", "true or false", prefetch)
    table.text("prefetch_source")
    result = Dram(
        table.number("bandwidth", 0.0),
        table.number("latency", 0.0),
        prefetch,
        table.number("energy", 0.0),
    )
    table.end()
    return result


def _precisions(profile: _Table) -> dict[tuple[Format, Format], Precision]:
    result = {}
    for row in profile.rows("precision"):
        weights, activations = (_format(row, field, kind) for field, kind in _OPERANDS)
        result[weights, activations] = Precision(row.number("rate", 0.0), row.number("energy", 0.0))
        row.end()
    if not result:
        raise profile.fail("precision", "one pair of formats or more", [])
    return result


_OPERANDS = (("weights", "int"), ("activations", "uint"))


def _format(row: _Table, field: str, kind: str) -> Format:
    text = row.take(field)
    try:
        found = UINT16 if text == str(UINT16) else parse_format(text) if isinstance(text, str) else None
    except GraphError:
        found = None
    if found is None or found.kind != kind or found != found.dense:
        raise row.fail(field, f"a format like {kind}8", text)
    return found


def _sparsity(profile: _Table) -> dict[str, float]:
    result = {}
    for row in profile.rows("sparsity"):
        name = row.take("pattern")
        if not isinstance(name, str) or name == "dense" or find_pattern(name) is None:
            raise row.fail("pattern", "a pattern like 2:4", name)
        result[name] = row.number("gain", 1.0)
        row.end()
    return result


def _fused(table: _Table) -> frozenset[Fusion]:
    found = table.take("operations")
    if not isinstance(found, list) or any(name not in FUSIONS for name in found):
        raise table.fail("operations", f"a list of {', '.join(FUSIONS)}", found)
    table.text("operations_source")
    table.end()
    return frozenset(found)
