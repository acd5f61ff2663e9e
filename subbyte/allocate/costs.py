"""What every width of every layer costs: accuracy by a table, bytes by the format, ms by a target."""

from __future__ import annotations

from collections.abc import Sequence

from subbyte.allocate.program import GroupItem, LayerItem, LayerOption
from subbyte.allocate.refuse import Rules, WidthFacts, kept_because, refusal
from subbyte.analysis.table import Kind, Sensitivity
from subbyte.device import Target, layers
from subbyte.device.size import scale_bytes, weight_bytes
from subbyte.errors import InputError
from subbyte.quant import QTensor
from subbyte.quantize.variants import Variants

#: Nats that count for every bit below 8 where measurements, which are no finer, say less: what wins
#: nothing is not narrowed.
LEAST_DEGRADATION = 1e-5


class Costs:
    """The choices that a network has on a target, as items of the integer program.

    activations: widths that activations may have. factors: by layer, what its degradations are multiplied
    by. Raises InputError if the table has no row of a layer.
    """

    def __init__(
        self, variants: Variants, table: Sensitivity, target: Target, activations: Sequence[int], rules: Rules
    ) -> None:
        self.table, self.target, self.rules = table, target, rules
        self.base = variants.quantized()
        self.layers = layers(self.base)
        self.names = variants.layers()
        self.shared = variants.activations()
        self.factors: dict[str, float] = {}
        self._widths = {8, *activations}
        self._books = variants.recipe.weights.levels != "uniform"
        group = {value: i for i, shared in enumerate(self.shared) for value in shared.values}
        self._reads = {n.name: group.get(n.inputs[0].removesuffix(".codes")) for n in self.base.nodes}
        self._degradations: dict[tuple[Kind, str], dict[int, float]] = {}
        for row in table.rows:
            for node in row.nodes:
                self._degradations.setdefault((row.kind, node), {})[row.bits] = table.added_kl(row)
        missing = [name for name in self.names if ("weights", name) not in self._degradations]
        if missing:
            raise InputError(f"the sensitivity table has no layer {missing[0]!r}; run the analysis again")
        self.refused = {name: self._refused(name) for name in self.names}

    def degradations(self, kind: Kind, node: str) -> dict[int, float]:
        """Added KL by width, of which 8 is one; never less than that of a wider one, never nothing."""
        measured, most = {**self._degradations.get((kind, node), {}), 8: 0.0}, 0.0
        result = {}
        for bits in sorted(measured, reverse=True):
            most = max(most, measured[bits], LEAST_DEGRADATION * (8 - bits))
            result[bits] = most
        return result

    def shape(self, layer: str) -> tuple[int, ...]:
        """Of a layer's weight, output channels first."""
        weight = self.base.node(layer).params["weight"]
        assert isinstance(weight, QTensor)
        return weight.shape

    def bytes_of(self, layer: str, bits: int) -> int:
        """Of the layer's weights in the file."""
        return weight_bytes(self.shape(layer), bits, book=self._books and bits < 8)

    def layer_item(self, name: str) -> LayerItem:
        """Degradation, bytes and milliseconds of a layer at every width that it may have."""
        layer, group = self.layers[name], self._reads[name]
        options = {}
        for bits, degradation in self.degradations("weights", name).items():
            times = {
                width: self.target.latency(layer, bits, width)
                for width in self._group_widths(group)
                if self.target.supports(layer, bits, width)
            }
            if times and bits not in self.refused[name]:
                factor = self.factors.get(name, 1.0)
                options[bits] = LayerOption(degradation * factor, self.bytes_of(name, bits), times)
        return LayerItem(name, options, group)

    def group_item(self, index: int) -> GroupItem:
        """Degradation and milliseconds of the activations of a group, which share one width."""
        nodes = self.shared[index].nodes
        readers = [n for n, group in self._reads.items() if group == index and not self._has_weights(n)]
        degradations = self.degradations("activations", nodes[0])
        widths = [
            bits
            for bits in self._group_widths(index)
            if all(self.target.supports(self.layers[reader], 0, bits) for reader in readers)
        ]
        times = {
            bits: sum(self.target.latency(self.layers[reader], 0, bits) for reader in readers)
            for bits in widths
        }
        return GroupItem(nodes, {bits: degradations[bits] for bits in widths}, times)

    def rest_latency(self) -> float:
        """Of nodes whose time no choice changes: they read the image, or have float weights."""
        total = 0.0
        for name, layer in self.layers.items():
            if name not in self.names and (self._reads[name] is None or self._has_weights(name)):
                total += self.target.latency(layer, self._float_bits(name), 8)
        return total

    def weight_bytes_at_8(self) -> int:
        """Bytes in the file of all weights at 8 bits."""
        return sum(self.bytes_of(name, 8) for name in self.names)

    def kept_because(self, name: str) -> str:
        """Why a layer that was given 8 bits has them."""
        degradations = self.degradations("weights", name)
        saved = {bits: self.bytes_of(name, 8) - self.bytes_of(name, bits) for bits in degradations}
        return kept_because(self.refused[name], degradations, saved)

    def _group_widths(self, group: int | None) -> list[int]:
        if group is None:
            return [8]
        return sorted(self._widths & self.degradations("activations", self.shared[group].nodes[0]).keys())

    def _has_weights(self, name: str) -> bool:
        return "weight" in self.base.node(name).params

    def _float_bits(self, name: str) -> int:
        weight = self.base.node(name).params.get("weight")
        return 0 if weight is None or isinstance(weight, QTensor) else 8 * weight.dtype.itemsize

    def _refused(self, name: str) -> dict[int, str]:
        layer = self.layers[name]
        at_8 = self.target.latency(layer, 8, 8)
        result = {}
        for row in self.table.rows:
            if row.kind != "weights" or name not in row.nodes or row.bits == 8:
                continue
            if not self.target.supports(layer, row.bits, 8):
                continue
            facts = WidthFacts(
                self.bytes_of(name, 8) - self.bytes_of(name, row.bits),
                scale_bytes(self.shape(name)),
                100.0 * (self.table.base.agreement - row.degradation.agreement),
                self.table.images,
                1.0 - self.target.latency(layer, row.bits, 8) / at_8 if at_8 > 0.0 else 0.0,
            )
            if (reason := refusal(facts, row.bits, self.rules)) is not None:
                result[row.bits] = reason
        return result
