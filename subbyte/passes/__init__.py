"""Rewrites of graphs, one per file (numpy only). `optimize` is the standard pipeline.

A pass is a function Graph -> Graph. It matches on data flow (who makes and who reads a value),
never on names or the order of a module's children, and applying it twice changes nothing more.
"""

from subbyte.passes.drop_dead_nodes import drop_dead_nodes
from subbyte.passes.fold_batch_norm import fold_batch_norm
from subbyte.passes.fuse_activation import fuse_activation
from subbyte.passes.fuse_residual import fuse_residual
from subbyte.passes.pipeline import STANDARD, Pass, apply, optimize
from subbyte.passes.rules import Rule
from subbyte.passes.squeeze_excite import SqueezeExcite, squeeze_excite

__all__ = [
    "STANDARD",
    "Pass",
    "Rule",
    "SqueezeExcite",
    "apply",
    "drop_dead_nodes",
    "fold_batch_norm",
    "fuse_activation",
    "fuse_residual",
    "optimize",
    "squeeze_excite",
]
