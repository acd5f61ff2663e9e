"""What every format of every layer costs: accuracy by a table, bytes by itself, ms by a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from subbyte.allocate.program import GroupItem, LayerItem, LayerOption
from subbyte.allocate.refuse import FormatFacts, Rules, kept_because, refusal
from subbyte.analysis.table import EIGHT_BITS, Kind, Sensitivity
from subbyte.device import Target, layers
from subbyte.device.target import reads
from subbyte.errors import InputError
from subbyte.ir.graph import weights_of
from subbyte.quant import Format, QTensor
from subbyte.quant.format import DENSE, INT8, UINT8, Pattern
from subbyte.quantize.variants import Variants

#: Nats that count for every bit below 8 where measurements, which are no finer, say less: what wins
#: nothing is not narrowed.
LEAST_DEGRADATION = 1e-5


class Costs:
    """The choices that a network has on a target, as items of the integer program.

    activations: formats that activations may have. factors: by layer, what its degradations are multiplied
    by. Raises InputError if the table has no row of a layer.
    """

    def __init__(
        self,
        variants: Variants,
        table: Sensitivity,
        target: Target,
        activations: Sequence[Format],
        rules: Rules,
    ) -> None:
        self.table, self.target, self.rules = table, target, rules
        self.base = variants.quantized()
        self.layers = layers(self.base)
        self.names = variants.layers()
        self.shared = variants.activations()
        self.factors: dict[str, float] = {}
        self._formats = {UINT8, *activations}
        self._books = variants.recipe.weights.levels != "uniform"
        group = {value: i for i, shared in enumerate(self.shared) for value in shared.values}
        self._reads = {n.name: group.get(n.inputs[0].removesuffix(".codes")) for n in self.base.nodes}
        self._degradations: dict[tuple[Kind, str], dict[Format, float]] = {}
        for row in table.rows:
            for node in row.nodes:
                self._degradations.setdefault((row.kind, node), {})[row.format] = table.added_kl(row)
        missing = [name for name in self.names if ("weights", name) not in self._degradations]
        if missing:
            raise InputError(f"the sensitivity table has no layer {missing[0]!r}; run the analysis again")
        self.refused = {name: self._refused(name) for name in self.names}

    def degradations(self, kind: Kind, node: str) -> dict[Format, float]:
        """Added KL by format, wide to narrow, of which 8 bits are one; never less than that of a wider one of
        the same pattern, never nothing."""
        measured = {**self._degradations.get((kind, node), {}), EIGHT_BITS[kind]: 0.0}
        most: dict[Pattern, float] = {}
        result = {}
        for format in sorted(measured, key=lambda format: -format.width):
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
        """Degradation, bytes and milliseconds of a layer at every width that it may have."""
        layer, group = self.layers[name], self._reads[name]
        options = {}
        for format, degradation in self.degradations("weights", name).items():
            times = {
                read: self.target.cost(layer, format, read).time
                for read in self._group_formats(group)
                if self.target.supports(layer, format, read)
            }
            if times and format not in self.refused[name]:
                factor = self.factors.get(name, 1.0)
                options[format] = LayerOption(degradation * factor, self.bytes_of(name, format), times)
        return LayerItem(name, options, group)

    def group_item(self, index: int) -> GroupItem:
        """Degradation and milliseconds of the activations of a group, which share one width."""
        nodes = self.shared[index].nodes
        readers = [n for n, group in self._reads.items() if group == index and not self._has_weights(n)]
        degradations = self.degradations("activations", nodes[0])
        formats = [
            format
            for format in self._group_formats(index)
            if all(self.target.supports(self.layers[reader], None, format) for reader in readers)
        ]
        times = {
            format: sum(self.target.cost(self.layers[reader], None, format).time for reader in readers)
            for format in formats
        }
        return GroupItem(nodes, {format: degradations[format] for format in formats}, times)

    def rest_latency(self) -> float:
        """Of nodes whose time no choice changes: they read the image, or have float weights."""
        total = 0.0
        for name, layer in self.layers.items():
            if name not in self.names and (self._reads[name] is None or self._has_weights(name)):
                node = self.base.node(name)
                total += self.target.cost(layer, weights_of(node), reads(self.base, node)).time
        return total

    def weight_bytes_at_8(self) -> int:
        """Bytes in the file of all weights at 8 bits."""
        return sum(self.bytes_of(name, INT8) for name in self.names)

    def kept_because(self, name: str) -> str:
        """Why a layer that was given 8 bits has them."""
        degradations = self.degradations("weights", name)
        saved = {f: self.bytes_of(name, INT8) - self.bytes_of(name, f) for f in degradations}
        return kept_because(self.refused[name], degradations, saved)

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
            if row.kind != "weights" or name not in row.nodes or row.format == INT8:
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
