"""The graphs that are mutated: together they use every op, width, code book and kind of parameter."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np

from subbyte.artifact import Artifact
from subbyte.ir import Graph
from subbyte.ir.coordinates import MODES
from subbyte.preprocess import Preprocessing
from tests.fuzz.builder import Builder


def quantized(rng: random.Random, bits: int) -> Graph:
    """Every quantized op once, on 8 x 8 images, with weights of `bits` bits."""
    b = Builder(rng, (8, 8, 3))
    x = b.qconv(b.quantize("image"), 16, (3, 3), stride=2, act="silu")
    expanded = b.qconv(x, 32, act="hard_swish", bits=bits, codebook=bits < 8)
    filtered = b.qconv(expanded, 32, (3, 3), groups=32, act="relu6", bits=bits)
    gated = b.squeeze_excite(filtered, 4, bits)
    projected = b.qconv(gated, 16, bits=bits, residual=x)
    added = b.add("add", [projected, x], b.grid())
    active = b.qactivation(added, "gelu")
    pooled = b.max_pool(b.concat(active, active))
    vector = b.flatten(b.add("global_avg_pool", [pooled], b.grid()))
    hidden = b.qlinear(vector, 12, bits=bits, act="relu", real=False)
    return b.finish(b.qlinear(hidden, 10, bits=bits), b.add("dequantize", [pooled]))


def narrow(rng: random.Random) -> Graph:
    """Activations of 4, 3 and 2 bits, grouped and rectangular convolutions, quantized outputs."""
    b = Builder(rng, (9, 7, 4))
    x = b.qconv(b.quantize("image", 4), 8, (1, 3), groups=2, act="relu", bits=4, out_bits=4)
    y = b.qconv(x, 8, (5, 1), groups=4, act="tanh", bits=2, out_bits=3, codebook=True)
    z = b.qconv(y, 8, (2, 2), bits=4, out_bits=2)
    return b.finish(b.qconv(z, 5, bits=2, out_bits=None), z)


def leveled(rng: random.Random) -> Graph:
    """Activations that are levels, of 4, 3 and 2 bits: behind tables of every kind of layer, through what
    keeps grids, into every op that reads codes, and as outputs."""
    b = Builder(rng, (9, 7, 4))
    x = b.qconv(b.quantize("image"), 8, (3, 3), act="silu", bits=4, out_bits=4, levels=True)
    y = b.qconv(x, 8, (3, 3), stride=2, groups=8, act="relu6", out_bits=3, levels=True)
    gated = b.squeeze_excite(y, 4)
    z = b.qconv(gated, 12, bits=4, out_bits=4, levels=True)
    summed = b.qconv(z, 12, (3, 3), bits=2, residual=z)
    active = b.qactivation(b.add("add", [summed, z], b.grid(4)), "tanh", 2, levels=True)
    pooled = b.max_pool(b.concat(active, active))
    vector = b.flatten(b.add("global_avg_pool", [z], b.grid()))
    hidden = b.qlinear(vector, 6, act="none", real=False, out_bits=4, levels=True)
    return b.finish(b.qlinear(hidden, 5), pooled, b.add("dequantize", [y]))


def real(rng: random.Random) -> Graph:
    """Every float op once, with float32 and float16 weights."""
    b = Builder(rng, (8, 8, 3))
    x = b.batch_norm(b.fconv("image", 8, 3))
    y = b.add("activation", [b.fconv(x, 8, 3, groups=8, half=True)], None, {"act": "leaky_relu"})
    gate = b.fconv(b.add("global_avg_pool", [y]), 8)
    scaled = b.add("add", [b.add("mul", [y, gate]), x])
    pooled = b.max_pool(b.concat(scaled, y), 2)
    return b.finish(b.flinear(b.flatten(b.add("global_avg_pool", [pooled])), 7))


def folded(rng: random.Random) -> Graph:
    """A float network as it is after batch norms are folded, with residuals."""
    b = Builder(rng, (7, 9, 3))
    x = b.fconv("image", 12, 3)
    y = b.fconv(b.fconv(x, 12, 3, groups=12), 20, half=True)
    z = b.add("add", [b.fconv(b.max_pool(y), 12, 2), b.fconv(b.max_pool(y), 12)])
    gate = b.fconv(b.add("global_avg_pool", [z]), 12)
    return b.finish(b.flinear(b.flatten(b.add("mul", [z, gate])), 5), x)


def mixed(rng: random.Random) -> Graph:
    """A quantized start, a float16 middle, a quantized end."""
    b = Builder(rng, (6, 6, 3))
    x = b.add("dequantize", [b.qconv(b.quantize("image"), 8, (3, 3), act="silu", bits=4)])
    y = b.quantize(b.fconv(x, 8, 3, half=True))
    return b.finish(b.qlinear(b.flatten(b.qconv(y, 4, bits=8)), 3, bits=2))


def middle(rng: random.Random) -> Graph:
    """A small EfficientNet: twelve inverted bottlenecks on 32 x 32 images, every width."""
    b = Builder(rng, (32, 32, 3))
    x = b.qconv(b.quantize("image"), 16, (3, 3), stride=2, act="silu")
    for block in range(12):
        bits = (2, 3, 4, 8)[block % 4]
        stride = 2 if block in (3, 7) else 1
        channels = 16 + 8 * (block // 4)
        y = b.qconv(x, 4 * b.shape(x)[2], act="silu", bits=bits, codebook=block % 2 == 1 and bits < 8)
        y = b.qconv(y, b.shape(y)[2], (3, 3), stride, groups=b.shape(y)[2], act="silu")
        y = b.squeeze_excite(y, 8, bits)
        keeps = stride == 1 and channels == b.shape(x)[2]
        x = b.qconv(y, channels, bits=bits, residual=x if keeps else None)
    vector = b.flatten(b.add("global_avg_pool", [b.qconv(x, 64, act="silu", bits=4)], b.grid()))
    return b.finish(b.qlinear(vector, 10, bits=4))


def balanced(rng: random.Random) -> Graph:
    """Quantized gates with a factor for each channel: applied by a projection, and alone."""
    b = Builder(rng, (6, 7, 5))
    x = b.qconv(b.quantize("image"), 37, (3, 3), act="silu")
    y = b.qconv(b.squeeze_excite(x, 4, spread=20.0), 21, bits=4)
    z = b.squeeze_excite(y, 3, spread=3.0)
    return b.finish(b.qlinear(b.flatten(b.qconv(z, 21, (3, 3), groups=21)), 6), z)


def scaled(rng: random.Random) -> Graph:
    """Float gates with a factor for each channel."""
    b = Builder(rng, (7, 5, 3))
    x = b.fconv("image", 19, 3, act="silu", half=True)
    y = b.add(
        "mul",
        [x, b.fconv(b.add("global_avg_pool", [x]), 19, act="sigmoid")],
        None,
        None,
        b.channel_scale(x, 7.0),
    )
    z = b.add("mul", [y, b.add("global_avg_pool", [y])], None, None, b.channel_scale(y, 50.0))
    return b.finish(b.fconv(y, 8), z)


def sparse(rng: random.Random) -> Graph:
    """Weights of patterns, of every width: groups and blocks that the channels are no multiples of, grouped
    and dense convolutions, with a residual, and linear layers."""
    b = Builder(rng, (7, 6, 3))
    x = b.qconv(b.quantize("image"), 18, (3, 3), stride=2, act="silu", pattern="2:4")
    expanded = b.qconv(x, 42, act="relu6", bits=4, pattern="4x16:50")
    grouped = b.qconv(expanded, 42, (3, 1), groups=2, bits=8, pattern="4x16:25")
    gated = b.squeeze_excite(grouped, 5)
    projected = b.qconv(gated, 18, bits=3, residual=x, pattern="1:4")
    again = b.qconv(projected, 34, bits=2, act="relu", pattern="5:7")
    full = b.qconv(again, 33, (2, 2), bits=4, pattern="4x16:100")
    vector = b.flatten(b.add("global_avg_pool", [full], b.grid()))
    hidden = b.qlinear(vector, 20, 3, "hard_swish", real=False, pattern="3x5:38")
    return b.finish(b.qlinear(hidden, 10, 2, pattern="1x1:30"), b.add("dequantize", [again]))


def moved(rng: random.Random, coded: bool = True) -> Graph:
    """What cuts, repeats, reorders, surrounds or averages a map, on codes or on float32 numbers."""
    b = Builder(rng, (8, 6, 3))
    x = b.qconv(b.quantize("image"), 12, (3, 3), act="silu") if coded else b.fconv("image", 12, 3)
    parts = [b.keep("slice", x, begin=(0, 0, c), end=(8, 6, c + 4), step=(1, 1, 1)) for c in (8, 0, 4)]
    mixed = b.keep("rearrange", b.concat(*parts), dims=(8, 6, 3, 4), perm=(0, 1, 3, 2), size=(8, 6, 12))
    coarse = b.keep("slice", mixed, begin=(1, 0, 3), end=(8, 6, 12), step=(2, 3, 4))
    larger = b.keep("rearrange", mixed, dims=(8, 6, 2, 2, 3), perm=(0, 2, 1, 3, 4), size=(16, 12, 3))
    around = [b.surrounded(larger, mode) for mode in ("zero", "edge", "reflect")]
    pooled = b.add("adaptive_avg_pool2d", [b.average(around[0], (3, 2), 2)], b.own(x), {"size": (3, 7)})
    once = b.add("global_avg_pool", [mixed], b.own(x))
    spread = b.concat(
        mixed,
        b.add(
            "expand",
            [
                b.add(
                    "rearrange",
                    [mixed],
                    b.values[x].q,
                    {"dims": (8, 6, 12), "perm": (2, 0, 1), "size": (1, 1, 576)},
                )
            ],
            b.values[x].q,
            {"size": (8, 6, 576)},
        ),
    )
    wide = b.add("expand", [once], b.values[once].q, {"size": (2, 3, 12)})
    turned = b.keep(
        "rearrange", coarse, dims=b.shape(coarse), perm=(2, 1, 0), size=(math.prod(b.shape(coarse)),)
    )
    counted = b.average(around[1], (1, 3), count_pad=1)
    return b.finish(turned, pooled, b.cut(spread), wide, around[2], b.shuffle(counted))


def computed(rng: random.Random, coded: bool = True) -> Graph:
    """Products, differences, slopes, other sizes and dilated convolutions, on codes or on float32 numbers."""
    b = Builder(rng, (7, 6, 3))
    x = b.quantize("image") if coded else b.fconv("image", 3, act="none")
    if coded:
        y = b.qconv(x, 12, (3, 3), dilation=(2, 3), pad=(2, 2, 3, 3), act="silu")
        z = b.qconv(y, 12, (3, 2), groups=12, dilation=(2, 1), pad=(2, 2, 1, 0), bits=4)
        w = b.qconv(y, 8, (2, 3), groups=2, dilation=(1, 2), pad=(1, 0, 2, 2), bits=2, act="relu")
    else:
        y = b.fdilated(x, 12, (3, 3), (2, 3), (2, 2, 3, 3))
        z = b.fdilated(y, 12, (3, 2), (2, 1), (2, 2, 1, 0), groups=12)
        w = b.fdilated(y, 8, (2, 3), (1, 2), (1, 0, 2, 2), groups=2)
    product = b.add("multiply", [y, z], b.own(x))
    difference = b.add("subtract", [product, y], b.own(x))
    sloped = b.add("prelu", [difference], b.own(x), None, b.numbers(difference, "slope"))
    sizes = [(3, 9), (14, 12), (1, 1), (7, 13)]
    modes = [*MODES, rng.choice(MODES)]
    nearest = [b.keep("resize_nearest", sloped, size=s, mode=m) for s, m in zip(sizes, modes, strict=True)]
    between = [
        b.add("resize_bilinear", [w], b.own(x), {"size": s, "mode": m})
        for s, m in zip(sizes, modes[::-1], strict=True)
    ]
    return b.finish(*nearest, *between)


def normalized(rng: random.Random) -> Graph:
    """Normalizations, quotients, roots and attention, which are float32."""
    b = Builder(rng, (5, 4, 12))
    x = "image"
    y = b.add("layer_norm", [x], None, {"eps": 1e-3}, b.numbers(x, "weight", "bias"))
    z = b.add("group_norm", [x], None, {"eps": 1e-2, "groups": 3}, b.numbers(x, "weight", "bias"))
    tokens = [b.keep("rearrange", v, dims=(20, 3, 4), perm=(1, 0, 2), size=(3, 20, 4)) for v in (y, z)]
    weights = b.add("softmax", [b.add("matmul", tokens)])
    turned = b.keep("rearrange", tokens[1], dims=(3, 20, 4), perm=(0, 2, 1), size=(3, 4, 20))
    vector = b.flatten(b.add("global_avg_pool", [y]))
    normal = b.add("layer_norm", [vector], None, {"eps": 1e-3}, b.numbers(vector, "weight", "bias"))
    root = b.add("sqrt", [b.add("multiply", [z, z])])
    quotient = b.add("divide", [z, root])
    return b.finish(b.add("matmul", [weights, turned]), normal, b.add("softmax", [normal]), root, quotient)


def quotients(rng: random.Random) -> Graph:
    """Squares, roots and quotients of whole numbers, of which zero is one."""
    b = Builder(rng, (4, 3, 5))
    square = b.add("multiply", ["image", "image"])
    return b.finish(b.add("sqrt", [square]), b.add("divide", ["image", square]))


def random_graph(rng: random.Random) -> Graph:
    """A random chain of one to eight steps, quantized or float, on a random small image."""
    b = Builder(rng, (rng.randint(1, 9), rng.randint(1, 9), rng.choice([1, 3, 4, 8])))
    coded = rng.random() < 0.7
    x = b.quantize("image") if coded else "image"
    for _ in range(rng.randint(1, 8)):
        x = _quantized_step(b, x) if coded else _float_step(b, x)
    if coded and rng.random() < 0.5:
        return b.finish(b.qlinear(b.flatten(x), rng.randint(1, 9), rng.choice([2, 3, 4, 8])))
    if b.values[x].q is not None and rng.random() < 0.5:
        x = b.add("dequantize", [x])
    return b.finish(x if x != "image" else b.flatten(x))


def _quantized_step(b: Builder, x: str) -> str:
    rng, channels = b.rng, b.shape(x)[2]
    bits, book = rng.choice([2, 3, 4, 8]), rng.random() < 0.3
    made = bits if book else 8  # codes that are levels are bytes of a fine grid, so that any op can follow
    act = rng.choice(["none", "relu", "relu6", "silu", "hard_swish", "tanh", "leaky_relu"])
    match rng.randrange(8):
        case 0:
            return b.qconv(
                x, rng.randint(1, 20), act=act, bits=bits, codebook=book, out_bits=made, levels=book
            )
        case 1:
            kernel = (rng.randint(1, 5), rng.randint(1, 5))
            return b.qconv(x, rng.randint(1, 9), kernel, rng.randint(1, 2), act=act, bits=bits)
        case 2:
            return b.qconv(
                *(x, channels, (3, 3)),
                groups=channels,
                act=act,
                bits=bits,
                codebook=book,
                out_bits=made,
                levels=book,
            )
        case 3:
            return b.squeeze_excite(x, rng.randint(1, 4), bits)
        case 4:
            return b.qconv(x, channels, bits=bits, residual=x)
        case 5:
            return b.add("add", [x, b.qactivation(x, act)], b.grid())
        case 6:
            return b.concat(x, b.max_pool(x, 3, 1))
        case _:
            return b.max_pool(x, 2, rng.randint(1, 3))


def _float_step(b: Builder, x: str) -> str:
    rng = b.rng
    match rng.randrange(6):
        case 0:
            return b.fconv(x, rng.randint(1, 9), rng.choice([1, 3]), half=rng.random() < 0.5)
        case 1:
            return b.batch_norm(x)
        case 2:
            act = rng.choice(["relu", "silu", "gelu", "hard_sigmoid"])
            return b.add("activation", [x], None, {"act": act})
        case 3:
            return b.add("mul", [x, b.add("global_avg_pool", [x])])
        case 4:
            return b.concat(b.add("add", [x, x]), x)
        case _:
            return b.max_pool(x, 2, 1)


def strided(rng: random.Random, width: int = 0, real: bool = False) -> Graph:
    """A convolution of every family on one map of 1 to 70 channels, with a stride up to the map's width.

    width: of the map, or 0 for one that a random stride cuts into at most nine outputs, odd or even.
    real: with a float32 convolution too.
    """
    kernel, outputs = (rng.randint(1, 3), rng.randint(1, 5)), rng.randint(1, 9)
    stride = width // outputs if width else rng.choice([1, 2, 3, rng.randint(4, 100)])
    extent = (outputs - 1) * stride + kernel[1] + rng.randrange(stride)
    shape = (rng.randint(kernel[0], 4), width or extent, rng.randint(1, 2 if width else 70))
    b, strides, pad = Builder(rng, shape), (rng.randint(1, 3), max(1, stride)), (0, 0, 0, 0)
    x, channels = b.quantize("image"), shape[2]
    act, bits = rng.choice(["none", "silu"]), rng.choice([2, 3, 4, 8])
    depthwise = b.qconv(x, channels, kernel, strides, channels, act, pad=pad)
    dense = b.qconv(x, rng.randint(1, 70), kernel, strides, 1, act, bits, pad=pad)
    grouped = b.qconv(x, 2 * channels, kernel, strides, channels, act, bits, pad=pad)
    pooled = b.add("max_pool2d", [x], b.values[x].q, {"kernel": kernel, "stride": strides, "pad": pad})
    if not real:
        return b.finish(depthwise, dense, grouped, pooled)
    attrs = {"stride": strides, "pad": pad, "groups": 1, "act": "none"}
    weight = b.arrays.normal(size=(3, *kernel, channels)).astype(np.float32)
    y = b.add("conv2d", ["image"], None, attrs, {"weight": weight, "bias": np.ones(3, np.float32)})
    return b.finish(depthwise, dense, grouped, pooled, y)


def wrap(graph: Graph, classes: tuple[str, ...] | None = None) -> Artifact:
    """The graph in an artifact with plain metadata."""
    height, width, _ = graph.value(graph.input).shape
    preprocessing = Preprocessing(height, width, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    recipe = {"name": "test", "steps": [{"kind": "round", "bits": 4, "ratio": 0.5}]}
    return Artifact(graph, recipe, preprocessing, classes, {"model": "test", "licence": "Apache-2.0"})


def seeds() -> dict[str, Artifact]:
    """The fixed artifacts that the fuzzer mutates, by name."""
    graphs = {
        "quantized2": quantized(random.Random(2), 2),
        "quantized3": quantized(random.Random(1), 3),
        "quantized4": quantized(random.Random(4), 4),
        "quantized8": quantized(random.Random(8), 8),
        "narrow": narrow(random.Random(3)),
        "leveled": leveled(random.Random(11)),
        "real": real(random.Random(5)),
        "folded": folded(random.Random(9)),
        "mixed": mixed(random.Random(6)),
        "middle": middle(random.Random(7)),
        "strided": strided(random.Random(10)),
        "balanced": balanced(random.Random(11)),
        "scaled": scaled(random.Random(12)),
        "sparse": sparse(random.Random(13)),
        "moved": moved(random.Random(13)),
        "computed": computed(random.Random(15)),
        "computed_real": computed(random.Random(16), coded=False),
        "normalized": normalized(random.Random(17)),
        "moved_real": moved(random.Random(14), coded=False),
    }
    named = tuple(f"class {i}" for i in range(10))
    wrapped = {name: wrap(graph, named if name == "quantized4" else None) for name, graph in graphs.items()}
    compact = {"compact8": quantized(random.Random(18), 8), "compact_mixed": mixed(random.Random(19))}
    return wrapped | {name: replace(wrap(graph), coding="entropy") for name, graph in compact.items()}
