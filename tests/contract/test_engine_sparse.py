"""Convolutions with blocks of zeros equal the reference, and run on kernels that skip where that pays."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from subbyte.execute.native import Session, available_isas
from subbyte.ir import Graph, Node
from subbyte.quant import QTensor
from tests.contract.agreement import assert_engine_equals, random_images
from tests.fuzz.builder import Builder

#: Where kernels that skip are worth it from few zeros on; ARM takes them from about 50 % on.
SPARSE_ISAS = {"portable", "avx2", "avxvnni", "avx512vnni"}
WINOGRAD = "int16 (Winograd)"  # what AVX2 makes of 3 x 3 layers, whatever their zeros

#: Input (H, W, C), output channels, kernel, stride, groups. More than 12 pixels each, so that sparsity pays.
SHAPES = (
    ((4, 4, 40), 64, (1, 1), 1, 1),
    ((5, 13, 37), 31, (1, 1), 1, 1),
    ((7, 5, 130), 65, (1, 1), 1, 1),
    ((9, 11, 66), 33, (1, 1), 2, 1),
    ((3, 50, 64), 80, (1, 1), 1, 1),
    ((6, 6, 17), 32, (3, 3), 1, 1),
    ((11, 9, 21), 48, (3, 3), 2, 1),
    ((5, 13, 33), 18, (2, 5), 1, 1),
    ((4, 6, 70), 68, (1, 1), 1, 2),
    ((5, 4, 34), 68, (3, 3), 1, 2),
)


def prune(graph: Graph, zeros: float, outputs: int, seed: int = 0) -> Graph:
    """The graph with a share of the blocks of 4 inputs x `outputs` of every convolution zero, at random."""
    rng = np.random.default_rng(seed)

    def pruned(node: Node) -> Node:
        weight = node.params.get("weight")
        if not isinstance(weight, QTensor) or node.op != "conv2d":
            return node
        o, h, w, i = weight.shape
        keep = rng.random((-(-o // outputs), h, w, -(-i // 4))) >= zeros
        mask = keep.repeat(outputs, axis=0)[:o].repeat(4, axis=3)[..., :i]
        zero = np.uint8(np.flatnonzero(weight.levels == 0)[0])
        codes = np.where(mask, weight.codes, zero)
        return replace(node, params={**node.params, "weight": replace(weight, codes=codes)})

    return replace(graph, nodes=tuple(pruned(node) for node in graph.nodes))


def executed(graph: Graph, isa: str) -> list[str]:
    return [row["executed_weights"] for row in Session(graph, isa=isa).plan() if row["macs"]]


def of_shape(index: int, bits: int, act: str = "silu", book: np.ndarray | None = None) -> Graph:
    shape, channels, kernel, stride, groups = SHAPES[index]
    b = Builder(random.Random(f"{index} {bits} {act}"), shape)
    x = b.quantize("image")
    codebook = False if book is None else book
    y = b.qconv(x, channels, kernel, stride, groups, act=act, bits=bits, codebook=codebook)
    return b.finish(y)


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("index", range(len(SHAPES)))
def test_sparse_layers_equal_the_reference(index: int, bits: int) -> None:
    for zeros, outputs in ((0.5, 16), (0.75, 32)):
        graph = prune(of_shape(index, bits), zeros, outputs, seed=index)
        assert_engine_equals(graph, random_images(graph, 2, 7))
        for isa in SPARSE_ISAS & set(available_isas()):
            (weights,) = executed(graph, isa)
            if isa == "avx2" and weights == WINOGRAD:
                assert SHAPES[index][2] == (3, 3)
                continue
            widths = {bits, 8} if isa == "avx512vnni" else {bits}  # narrow codes may be expanded there
            assert weights.startswith(tuple(f"int{width}+4x" for width in widths)), (isa, weights)


@pytest.mark.parametrize("act", ["none", "relu6"])
def test_nothing_kept(act: str) -> None:
    graph = prune(of_shape(0, 8, act), 1.0, 16)
    assert_engine_equals(graph, random_images(graph, 1, 3))
    for isa in SPARSE_ISAS & set(available_isas()):
        assert executed(graph, isa) == ["int8+4x32:0"]


def test_zero_may_be_any_code() -> None:
    book = np.array([5, -7, 90, 0, -128, 127, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11], np.int8)
    graph = prune(of_shape(2, 4, book=book), 0.6, 16)
    assert_engine_equals(graph, random_images(graph, 1, 4))
    for isa in SPARSE_ISAS & set(available_isas()):
        found = executed(graph, isa)[0]
        assert found.startswith("int4+book+4x16:") or (isa == "avx512vnni" and found.startswith("int8+4x16:"))


@pytest.mark.skipif("avx512vnni" not in available_isas(), reason="kernels that decode for every tile")
@pytest.mark.parametrize(("bits", "zeros", "expected"), [(4, 0.5, 8), (4, 0.25, 4), (2, 0.5, 2), (2, 0.8, 8)])
def test_narrow_codes_are_expanded_where_that_takes_an_eighth_more_at_most(
    bits: int, zeros: float, expected: int
) -> None:
    """A kept group of 4 inputs x 16 outputs takes 64 bytes at 8 bits, and 4 in the list; a dense one 32 at 4
    bits, 16 at 2."""
    b = Builder(random.Random(3), (6, 6, 960))
    dense = b.finish(b.qconv(b.quantize("image"), 64, act="silu", bits=bits))
    graph = prune(dense, zeros, 16)
    (weights,) = executed(graph, "avx512vnni")
    assert weights.startswith(f"int{expected}+4x16:")
    assert_engine_equals(graph, random_images(graph, 1, 5))
    taken = [Session(each, isa="avx512vnni").weight_bytes for each in (dense, graph)]
    assert taken[1] <= taken[0] * 9 / 8


@pytest.mark.parametrize("bits", [8, 2])
def test_a_few_zero_blocks_stay_dense(bits: int) -> None:
    for index in range(len(SHAPES)):
        graph = prune(of_shape(index, bits), 0.02, 16)
        for isa in available_isas():
            assert executed(graph, isa) in ([f"int{bits}"], [WINOGRAD])


def test_the_share_of_blocks_is_shown() -> None:
    """21 of 40 blocks are 53 %, rounded up."""
    graph = of_shape(0, 8)
    (conv,) = (node for node in graph.nodes if node.op == "conv2d")
    dense = conv.params["weight"]
    assert isinstance(dense, QTensor)
    codes = np.where(dense.codes == 0, np.uint8(1), dense.codes)
    for block, inputs in ((0, 5), (1, 4), (2, 3), (3, 9)):  # of 10 each
        codes[16 * block : 16 * block + 16, ..., 4 * inputs :] = 0
    weight = replace(dense, codes=codes)
    nodes = tuple(
        replace(node, params={**node.params, "weight": weight}) if node is conv else node
        for node in graph.nodes
    )
    for isa in SPARSE_ISAS & set(available_isas()):
        assert executed(replace(graph, nodes=nodes), isa) == ["int8+4x16:53"]


def test_whole_blocks_of_a_network() -> None:
    """Expansion, depthwise layer, squeeze-and-excitation in the projection, residual, float32 result."""
    b = Builder(random.Random(5), (9, 10, 24))
    x = b.qconv(b.quantize("image"), 40, (3, 3), act="silu")
    y = b.qconv(x, 160, act="silu")
    y = b.qconv(y, 160, (3, 3), groups=160, act="silu")
    y = b.squeeze_excite(y, 10)
    y = b.qconv(y, 40, residual=x)
    graph = prune(b.finish(b.qconv(y, 70, out_bits=None)), 0.6, 16)
    assert_engine_equals(graph, random_images(graph, 3, 11))
    for isa in SPARSE_ISAS & set(available_isas()):
        kernels = [row["kernel"] for row in Session(graph, isa=isa).plan()]
        assert any("sparse" in kernel and kernel.endswith("+ gate") for kernel in kernels), kernels
