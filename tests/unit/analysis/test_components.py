"""Kinds and stages of layers, found by data flow."""

from __future__ import annotations

from subbyte.analysis.components import KINDS, Component, components
from tests.unit.compress.networks import FloatNetwork, efficientnet_like


def test_every_part_of_an_efficientnet_is_recognized() -> None:
    found = components(efficientnet_like())
    assert {name: c.kind for name, c in found.items() if "0" not in name and name != "mul6"} == {
        "stem": "stem",
        "expand": "expand",
        "depthwise": "depthwise",
        "global_avg_pool3": "depthwise",
        "squeeze": "se_reduce",
        "excite": "se_expand",
        "project": "project",
        "head": "head",
        "global_avg_pool9": "head",
        "classifier": "classifier",
    }
    assert found["stem"].stage == "stem"
    assert {found[name].stage for name in ("expand", "depthwise", "squeeze", "project")} == {"1"}
    assert found["classifier"] == Component("classifier", "head")
    assert {c.kind for c in found.values()} <= set(KINDS)


def test_fused_blocks_and_stages() -> None:
    net = FloatNetwork((8, 8, 3))
    x = net.conv("a", "image", 4, 3, "silu")
    x = net.conv("b", x, 4, 3, "silu", residual=x)  # keeps its width: one convolution
    y = net.conv("c", x, 16, 3, "silu")
    x = net.conv("d", y, 4, residual=x)  # the same stage
    y = net.conv("e", x, 16, 3, "silu")
    x = net.conv("f", y, 6)  # other channels: another stage
    y = net.conv("g", x, 24, 1, "silu")
    y = net.conv("h", y, 24, 3, "silu", groups=24)
    x = net.conv("i", y, 6, residual=x)
    graph = net.graph(net.linear("j", net.flatten(net.pool(x)), 5))
    found = components(graph)
    assert {name: (c.kind, c.stage) for name, c in found.items() if len(name) == 1} == {
        "a": ("stem", "stem"),
        "b": ("fused_conv", "1"),
        "c": ("fused_expand", "1"),
        "d": ("fused_project", "1"),
        "e": ("fused_expand", "2"),
        "f": ("fused_project", "2"),
        "g": ("expand", "2"),
        "h": ("depthwise", "2"),
        "i": ("project", "2"),
        "j": ("classifier", "head"),
    }


def test_names_do_not_matter() -> None:
    net = FloatNetwork((8, 8, 3))
    x = net.conv("classifier", "image", 4, 3, "relu")
    x = net.conv("depthwise", x, 16, 1, "relu")
    x = net.conv("stem", x, 16, 3, "relu", groups=16)
    x = net.conv("head", x, 4)
    x = net.conv("expand", x, 32, 1, "relu")
    graph = net.graph(net.linear("project", net.flatten(net.pool(x)), 5))
    kinds = [components(graph)[node.name].kind for node in graph.nodes if node.op in ("conv2d", "linear")]
    assert kinds == ["stem", "expand", "depthwise", "project", "head", "classifier"]
