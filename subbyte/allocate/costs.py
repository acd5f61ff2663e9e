"""What every format of every layer costs: accuracy by a table, bytes by itself, ms by a target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from subbyte.allocate.program import GroupItem, LayerItem, LayerOption
from subbyte.allocate.refuse import FormatFacts, Rules, kept_because, refusal
from subbyte.analysis.table import EIGHT_BITS, Kind, Sensitivity
from subbyte.device import Cost, Target, layers
from subbyte.device.conversion import conversion_cost
from subbyte.device.target import reads
from subbyte.errors import InputError
from subbyte.ir.graph import weights_of
from subbyte.ir.shares import activations as counted
from subbyte.ir.shares import shares
from subbyte.quant import Format, QTensor
from subbyte.quant.format import FP32, INT8, UINT8
from subbyte.quant.pattern import DENSE, Pattern
from subbyte.quantize.variants import Variants

#: Nats that count for every bit below 8 where measurements, which are no finer, say less: what wins
#: nothing is not narrowed.
LEAST_DEGRADATION = 1e-5


class Costs:
    """The choices that a network has on a target, as items of the integer program.

    activations: formats that activations may have. floats: float formats that layers may stay in.
    factors: by layer, what its degradations are multiplied by; group_factors: by index of a group of
    activations. Raises InputError if the table has no row of a layer, or none for a float format.

    A float layer reads and makes float32. Its time includes making all its inputs real and quantizing its
    output, which is a bound: between two float layers nothing is converted.
    """

    def __init__(
        self,
        variants: Variants,
        table: Sensitivity,
        target: Target,
        activations: Sequence[Format],
        rules: Rules,
        floats: Sequence[Format] = (),
    ) -> None:
        self.table, self.target, self.rules = table, target, rules
        self.base = variants.quantized()
        self.layers = layers(self.base)
        self.names = variants.layers()
        self.shared = variants.activations()
        self.factors: dict[str, float] = {}
        self.group_factors: dict[int, float] = {}
        self.graph, self.floats = variants.graph, sorted(floats, key=lambda format: -format.width)
        whole = variants.quantized(dict.fromkeys(self.names, FP32)) if floats else self.base
        self._float_layers = layers(whole)
        self._formats = {UINT8, *activations}
        self._books = variants.recipe.weights.levels != "uniform"
        group = {value: i for i, shared in enumerate(self.shared) for value in shared.values}
        self._reads = {n.name: group.get(n.inputs[0].removesuffix(".codes")) for n in self.base.nodes}
        self._elements = [0] * len(self.shared)
        for value in counted(self.base):
            index = group.get(value.name.removesuffix(".codes"))
            if value.q is not None and index is not None:
                self._elements[index] += math.prod(value.shape)
        outputs = {name: self.graph.node(name).output for name in self.names}
        self._made = {name: group[output] for name, output in outputs.items() if output in group}
        self._degradations: dict[tuple[Kind, str], dict[Format, float]] = {}
        for row in table.rows:
            for node in row.nodes:
                self._degradations.setdefault((row.kind, node), {})[row.format] = table.added_kl(row)
        self._check_table()
        choices = [self._group_formats(index) for index in range(len(self.shared))]
        #: The narrowest format that each node's activations may have, where it has codes; and all formats
        #: that some may have, wide to narrow.
        self.narrowest = {
            node: formats[0]
            for group, formats in zip(self.shared, choices, strict=True)
            for node in group.nodes
        }
        self.formats = sorted({UINT8}.union(*choices), key=lambda format: -format.width)
        self.refused = {name: self._refused(name) for name in self.names}

    def _check_table(self) -> None:
        missing = [name for name in self.names if ("weights", name) not in self._degradations]
        if missing:
            raise InputError(f"the sensitivity table has no layer {missing[0]!r}; run the analysis again")
        for format in self.floats:
            if any(format not in self._degradations["weights", name] for name in self.names):
                raise InputError(
                    f"the sensitivity table does not say what layers gain in {format}; run the analysis "
                    f"again with --weight-bits 8,4,3,2,{format}"
                )

    def degradations(self, kind: Kind, node: str) -> dict[Format, float]:
        """Added KL by format, wide to narrow, of which 8 bits are one; never less than that of a wider one of
        the same pattern, never nothing. Float formats that are allowed come first, with what they remove of
        the degradation of 8 bits, below 0 if that is more than LEAST_DEGRADATION."""
        measured = {**self._degradations.get((kind, node), {}), EIGHT_BITS[kind]: 0.0}
        most: dict[Pattern, float] = {}
        result = {f: measured[f] + LEAST_DEGRADATION for f in self.floats if f in measured}
        quantized = [format for format in measured if not format.is_float]
        for format in sorted(quantized, key=lambda format: -format.width):
            least = max(most.get(format.pattern, 0.0), LEAST_DEGRADATION * (8 - format.width))
            most[format.pattern] = result[format] = max(measured[format], least)
        return result

    def shape(self, layer: str) -> tuple[int, ...]:
        """Of a layer's weight, output channels first."""
        weight = self.base.node(layer).params["weight"]
        assert isinstance(weight, QTensor)
        return weight.shape

    def bytes_of(self, layer: str, format: Format) -> int:
        """Of the layer's weights in the file."""
        book = self._books and format.bits < 8 and format.pattern == DENSE
        return replace(format, book=book).bytes(self.shape(layer))

    def layer_item(self, name: str) -> LayerItem:
        """Degradation, bytes, milliseconds and millijoules of a layer at every width that it may have."""
        layer, group = self.layers[name], self._reads[name]
        options = {}
        for format, degradation in self.degradations("weights", name).items():
            costs = {
                read: self.target.cost(layer, format, read)
                for read in self._group_formats(group)
                if not format.is_float and self.target.supports(layer, format, read)
            }
            if format.is_float and degradation < 0.0:  # else it wins nothing
                costs = self._float_costs(name, format)
            if costs and format not in self.refused[name]:
                factor, bits = self.factors.get(name, 1.0), self._float_bits(name) if format.is_float else 0
                times = {read: cost.time for read, cost in costs.items()}
                options[format] = LayerOption(
                    degradation * factor, self.bytes_of(name, format), times, bits, _energies(costs)
                )
        return LayerItem(name, options, group)

    def _float_costs(self, name: str, format: Format) -> dict[Format, Cost]:
        """Of a layer in floating point with its conversions, by the format of what it reads."""
        layer, node = self._float_layers[name], self.graph.node(name)
        if not self.target.supports(layer, format, FP32):
            return {}
        parts = [self.target.cost(layer, format, FP32)]
        for value in node.inputs:
            if value != self.graph.input:
                parts.append(conversion_cost(self.target, "dequantize", self.graph.value(value).shape))
        if name in self._made:
            parts.append(conversion_cost(self.target, "quantize", self.graph.value(node.output).shape))
        energies = [part.energy for part in parts if part.energy is not None]
        energy = sum(energies) if len(energies) == len(parts) else None
        whole = Cost(sum(part.time for part in parts), sum(part.moved for part in parts), energy)
        return dict.fromkeys(self._group_formats(self._reads[name]), whole)

    def _float_bits(self, name: str) -> int:
        """Bits that activations have more if the layer makes float32, at most."""
        if name not in self._made:
            return 0
        narrowest = min(format.bits for format in self._group_formats(self._made[name]))
        elements = math.prod(self.graph.value(self.graph.node(name).output).shape)
        return (FP32.bits - narrowest) * elements

    def group_item(self, index: int) -> GroupItem:
        """Degradation, costs and number of the activations of a group, which share one width."""
        nodes = self.shared[index].nodes
        readers = [n for n, group in self._reads.items() if group == index and not self._has_weights(n)]
        degradations = self.degradations("activations", nodes[0])
        formats = [
            format
            for format in self._group_formats(index)
            if all(self.target.supports(self.layers[reader], None, format) for reader in readers)
        ]
        costs = {f: [self.target.cost(self.layers[reader], None, f) for reader in readers] for f in formats}
        times = {format: sum(cost.time for cost in found) for format, found in costs.items()}
        energies = {format: sum(cost.energy or 0.0 for cost in found) for format, found in costs.items()}
        factor = self.group_factors.get(index, 1.0)
        added = {format: degradations[format] * factor for format in formats}
        return GroupItem(nodes, added, times, self._elements[index], energies)

    def activation_elements(self) -> tuple[int, int]:
        """All activations that there are with 8 bits in all groups, and bits of those that no choice
        changes."""
        found = shares(self.base)
        total = sum(found.activations.values())
        fixed = sum(format.bits * count for format, count in found.activations.items())
        return total, fixed - UINT8.bits * sum(self._elements)

    def rest(self) -> list[Cost]:
        """Of nodes that no choice changes: they read the image, or have float weights."""
        found = []
        for name, layer in self.layers.items():
            if name not in self.names and (self._reads[name] is None or self._has_weights(name)):
                node = self.base.node(name)
                found.append(self.target.cost(layer, weights_of(node), reads(self.base, node)))
        return found

    def knows_energy(self) -> bool:
        """Whether the target says what the network's layers take."""
        return all(self.target.cost(self.layers[n], INT8, UINT8).energy is not None for n in self.names)

    def weight_bytes_at_8(self) -> int:
        """Bytes in the file of all weights at 8 bits."""
        return sum(self.bytes_of(name, INT8) for name in self.names)

    def kept_because(self, name: str) -> str:
        """Why a layer that was given 8 bits has them."""
        degradations = {
            format: added
            for format, added in self.degradations("weights", name).items()
            if not format.is_float
        }
        saved = {f: self.bytes_of(name, INT8) - self.bytes_of(name, f) for f in degradations}
        return kept_because(self.refused[name], degradations, saved)

    def float_because(self, name: str, format: Format) -> str:
        """Why a layer stays in a float format."""
        won = -self.degradations("weights", name)[format]
        return f"{format}: 8 bits alone would add {max(won, 0.0):.4f} nats"

    def _group_formats(self, group: int | None) -> list[Format]:
        if group is None:
            return [UINT8]
        known = self.degradations("activations", self.shared[group].nodes[0])
        return sorted(self._formats & known.keys(), key=lambda format: format.width)

    def _has_weights(self, name: str) -> bool:
        return "weight" in self.base.node(name).params

    def _refused(self, name: str) -> dict[Format, str]:
        layer = self.layers[name]
        at_8 = self.target.cost(layer, INT8, UINT8).time
        result = {}
        for row in self.table.rows:
            if row.kind != "weights" or name not in row.nodes or row.format == INT8 or row.format.is_float:
                continue
            if not self.target.supports(layer, row.format, UINT8):
                continue
            facts = FormatFacts(
                self.bytes_of(name, INT8) - self.bytes_of(name, row.format),
                row.format.scale_bytes(self.shape(name)),
                100.0 * (self.table.base.agreement - row.degradation.agreement),
                self.table.images,
                1.0 - self.target.cost(layer, row.format, UINT8).time / at_8 if at_8 > 0.0 else 0.0,
            )
            if (reason := refusal(facts, row.format, self.rules)) is not None:
                result[row.format] = reason
        return result


def _energies(costs: Mapping[Format, Cost]) -> dict[Format, float]:
    """mJ, where the target knows them."""
    return {read: cost.energy for read, cost in costs.items() if cost.energy is not None}
