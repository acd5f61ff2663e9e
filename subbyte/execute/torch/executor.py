"""Runs a graph on torch tensors: the reference's integers, fast, and differentiable.

Values are NCHW tensors (in channels-last memory). A quantized value is a float32 tensor that
holds exact codes, so gradients flow through it; docs/spec/numerics.md is followed rounding for
rounding. Because everything happens in the code domain with scales as tensors, the gradient of
a scale is the one of LSQ (arXiv 1902.08153) without a formula for it.

Sums of products are exact: on a CPU in float32 where a bound proves every partial sum below 2**24, in
float64 elsewhere. Any torch device will do; every tensor is made on that of the images. The tests
prove equal integers on CPUs, whose float32 operations are IEEE 754's; on another device equality asks
for the same of its elementwise operations, and for float64 convolutions that multiply and add.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from subbyte.execute.images import checked
from subbyte.execute.torch.estimators import STE, Estimator
from subbyte.execute.torch.ops import OPS
from subbyte.execute.torch.step import step_of
from subbyte.ir import Graph, verify
from subbyte.quant import QTensor

State = dict[str, Tensor]
Device = torch.device | str
Visit = Callable[[str, Tensor], None]

#: Images that run through the whole graph together in `run`, so that maps stay in the cache.
CHUNK = 8


def state_of(graph: Graph, device: Device = "cpu") -> State:
    """Every number of a graph that a gradient can reach, and its tables, as new tensors on `device`.

    `value:scale` of quantized values, 0-dim float32, and `value:levels`, float32 [2**bits], where they have
    some. Per node: `node:weight` (float32; integers where quantized), `node:bias` (float32, or float64 that
    hold int32), `node:weight_scale` float32 [O], `node:pre_scale` 0-dim, `node:table` float32 [256], mul's
    `node:channel_scale` [C], batch norm's `node:mean`, `node:var`. A caller may replace entries, for
    instance by functions of what it trains.
    """
    state: State = {}
    for value in graph.values.values():
        if value.q is not None:
            state[f"{value.name}:scale"] = torch.tensor(value.q.scale, dtype=torch.float32)
            if value.q.levels is not None:
                state[f"{value.name}:levels"] = torch.tensor(value.q.levels, dtype=torch.float32)
    for node in graph.nodes:
        for role, param in node.params.items():
            if isinstance(param, QTensor):
                state[f"{node.name}:{role}"] = weight_tensor(param.values())
                state[f"{node.name}:weight_scale"] = torch.from_numpy(param.scale.copy())
            elif role == "weight":
                state[f"{node.name}:weight"] = weight_tensor(param)
            else:
                wide = torch.float64 if param.dtype == np.int32 else torch.float32
                state[f"{node.name}:{role}"] = torch.from_numpy(np.array(param)).to(wide)
        if "pre_scale" in node.attrs:
            state[f"{node.name}:pre_scale"] = torch.tensor(node.attrs["pre_scale"], dtype=torch.float32)
    return {name: tensor.to(device) for name, tensor in state.items()}


def weight_tensor(array: np.ndarray) -> Tensor:
    """[O, kh, kw, I] to [O, I, kh, kw]; other shapes as they are; float32."""
    weight = torch.from_numpy(array.astype(np.float32))
    return weight.permute(0, 3, 1, 2) if weight.ndim == 4 else weight


def forward(
    graph: Graph,
    x: Tensor,
    state: Mapping[str, Tensor] | None = None,
    *,
    keep: bool = False,
    visit: Visit | None = None,
    exact: bool = True,
    bfloat16: bool = False,
    estimator: Estimator = STE,
) -> dict[str, Tensor]:
    """Executes `graph` on x, float32 [N, C, H, W]; differentiable in x and in `state`.

    Returns the outputs by value name (every value if `keep`): float32, codes where quantized.
    `state` may hold `value:unrounded`, bool of a value's shape [N, C, H, W]: where it stays between codes.
    `visit` is called with each value's name and tensor as soon as it exists and must not keep
    or change it. Values are freed after their last use. Without `exact`, quantized convolutions
    are rounded like any float32 computation, which training does not notice; there `estimator` says how
    gradients pass the roundings of their outputs, and with bfloat16 those of convolutions are computed of
    numbers rounded to bfloat16.
    """
    state = state_of(graph, x.device) if state is None else state
    last_use = {name: node.name for node in graph.nodes for name in node.inputs}
    values: dict[str, Tensor] = {graph.input: x}
    with exact_convolutions():
        for node in graph.nodes:
            arrays = [values[name] for name in node.inputs]
            step = step_of(graph, node, state, bfloat16=bfloat16, estimator=estimator)
            row = OPS[node.op]
            fast = None if exact or not step.quantized else row.training
            result = (fast or row.run)(step, arrays)
            values[node.output] = result
            if visit is not None:
                visit(node.output, result)
            if not keep:
                dead = {n for n in node.inputs if last_use[n] == node.name and n not in graph.outputs}
                for name in dead:
                    del values[name]
    return values if keep else {name: values[name] for name in graph.outputs}


def exact_convolutions() -> AbstractContextManager[None]:
    """Keeps torch from choosing NNPACK, whose Winograd transforms are not exact on integers."""
    return torch.backends.nnpack.flags(enabled=False)


@dataclass(frozen=True)
class Prepared:
    """A verified graph and its numbers on a device."""

    graph: Graph
    state: State
    device: Device

    def run(self, x: np.ndarray, *, keep: bool = False) -> dict[str, np.ndarray]:
        """See subbyte.execute.Prepared; every value if `keep`."""
        images, parts = checked(self.graph, x), []
        with torch.no_grad():
            for start in range(0, max(len(images), 1), CHUNK):
                batch = nchw(images[start : start + CHUNK]).to(self.device)
                parts.append(forward(self.graph, batch, self.state, keep=keep))
        return {name: _array(self.graph, name, [part[name] for part in parts]) for name in parts[0]}


def prepare(graph: Graph, device: Device = "cpu") -> Prepared:
    """The graph, ready to run on a torch device. Raises GraphError if it breaks a rule."""
    return Prepared(verify(graph), state_of(graph, device), device)


def run(graph: Graph, x: np.ndarray | Tensor, *, keep: bool = False) -> dict[str, np.ndarray]:
    """The same as `reference.run`: equal codes, float32 within the bounds of numerics.md.

    x: float32 [N, H, W, C]; where it is a tensor, its device computes. Raises InputError if x has another
    shape or dtype than the graph's input, or is not finite.
    """
    device = x.device if isinstance(x, Tensor) else "cpu"
    images = x.detach().cpu().numpy() if isinstance(x, Tensor) else x
    return Prepared(graph, state_of(graph, device), device).run(images, keep=keep)


def nchw(images: np.ndarray) -> Tensor:
    """float32 [N, H, W, C] as the [N, C, H, W] that `forward` reads (vectors stay); shares memory."""
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor


def _array(graph: Graph, name: str, parts: list[Tensor]) -> np.ndarray:
    joined = torch.cat(parts)
    joined = joined.permute(0, 2, 3, 1) if joined.ndim == 4 else joined
    quantized = graph.value(name).q is not None
    return joined.to(torch.uint8 if quantized else torch.float32).contiguous().cpu().numpy()
