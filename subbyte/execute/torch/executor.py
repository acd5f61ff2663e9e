"""Runs a graph on torch tensors: the reference's integers, fast, and differentiable.

Values are NCHW tensors (in channels-last memory). A quantized value is a float32 tensor that
holds exact codes, so gradients flow through it; docs/spec/numerics.md is followed rounding for
rounding. Because everything happens in the code domain with scales as tensors, the gradient of
a scale is the one of LSQ (arXiv 1902.08153) without a formula for it.

Sums of products are exact: in float32 where a bound proves every partial sum below 2**24, in
float64 elsewhere. Equality holds on CPUs; an accelerator's convolutions may round differently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from subbyte.errors import InputError
from subbyte.execute.torch import ops as torch_ops
from subbyte.execute.torch import training_ops
from subbyte.ir import Graph
from subbyte.quant import QTensor

State = dict[str, Tensor]
Visit = Callable[[str, Tensor], None]

#: Images that run through the whole graph together in `run`, so that maps stay in the cache.
CHUNK = 8


def state_of(graph: Graph) -> State:
    """Every number of a graph that a gradient can reach, and its tables, as new tensors.

    `value:scale` of quantized values, 0-dim float32. Per node: `node:weight` (float32; integers
    where quantized), `node:bias` (float32, or float64 holding the int32), `node:weight_scale`
    float32 [O], `node:pre_scale` 0-dim, `node:table` float32 [256], batch norm's `node:mean`,
    `node:var`. A caller may replace entries, for instance by functions of what it trains.
    """
    state: State = {}
    for value in graph.values.values():
        if value.q is not None:
            state[f"{value.name}:scale"] = torch.tensor(value.q.scale, dtype=torch.float32)
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
    return state


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
) -> dict[str, Tensor]:
    """Executes `graph` on x, float32 [N, C, H, W]; differentiable in x and in `state`.

    Returns the outputs by value name (every value if `keep`): float32, codes where quantized.
    `visit` is called with each value's name and tensor as soon as it exists and must not keep
    or change it. Values are freed after their last use. Without `exact`, quantized convolutions
    are rounded like any float32 computation, which training does not notice.
    """
    state = state_of(graph) if state is None else state
    last_use = {name: node.name for node in graph.nodes for name in node.inputs}
    values: dict[str, Tensor] = {graph.input: x}
    with exact_convolutions():
        for node in graph.nodes:
            inputs = [graph.value(name) for name in node.inputs]
            arrays = [values[name] for name in node.inputs]
            step = torch_ops.Step(node, inputs, graph.value(node.output), state)
            fast = not exact and step.quantized and node.op in ("conv2d", "linear")
            result = training_ops.conv(step, arrays) if fast else torch_ops.OPS[node.op](step, arrays)
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


def run(graph: Graph, x: np.ndarray | Tensor, *, keep: bool = False) -> dict[str, np.ndarray]:
    """The same as `reference.run`: equal codes, float32 within the bounds of numerics.md.

    x: float32 [N, H, W, C]. Raises InputError if x has another shape or dtype than the graph's
    input, or is not finite.
    """
    images = checked(graph, x.detach().cpu().numpy() if isinstance(x, Tensor) else x)
    state = state_of(graph)
    parts: list[dict[str, Tensor]] = []
    with torch.no_grad():
        for start in range(0, max(len(images), 1), CHUNK):
            batch = nchw(images[start : start + CHUNK])
            parts.append(forward(graph, batch, state, keep=keep))
    return {name: _array(graph, name, [part[name] for part in parts]) for name in parts[0]}


def checked(graph: Graph, images: np.ndarray) -> np.ndarray:
    """The images, or InputError if they do not fit the graph's input or are not finite."""
    expected = graph.value(graph.input).shape
    if images.dtype != np.float32 or images.shape[1:] != expected:
        raise InputError(
            f"input must be float32 [N, {', '.join(map(str, expected))}], "
            f"got {images.dtype} {list(images.shape)}"
        )
    if not np.isfinite(images).all():
        raise InputError("input holds NaN or infinity")
    return images


def nchw(images: np.ndarray) -> Tensor:
    """float32 [N, H, W, C] as the [N, C, H, W] that `forward` reads (vectors stay); shares memory."""
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor


def _array(graph: Graph, name: str, parts: list[Tensor]) -> np.ndarray:
    joined = torch.cat(parts)
    joined = joined.permute(0, 2, 3, 1) if joined.ndim == 4 else joined
    quantized = graph.value(name).q is not None
    return joined.to(torch.uint8 if quantized else torch.float32).contiguous().numpy()
