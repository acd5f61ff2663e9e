"""torch.export, as this package needs it: one image in, functional ATen operators out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from subbyte.errors import SubbyteError


def export(module: nn.Module, shape: tuple[int, int, int]) -> torch.export.ExportedProgram:
    """`module` in evaluation mode on one image of `shape` (H, W, C), as a functional program.

    Only functionalized, not decomposed: in-place operators and aliases are gone, while conv2d,
    linear and the activations stay whole.

    Raises SubbyteError if torch.export cannot trace the module.
    """
    height, width, channels = shape
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    example = torch.zeros(1, channels, height, width, device=device)
    with warnings.catch_warnings(), _evaluation_mode(module), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's own deprecations, nothing a user could act on
        try:
            program = torch.export.export(module, (example,), strict=False)
            program = program.run_decompositions({})
        except Exception as error:  # whatever the user's forward raises ends up here
            first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise SubbyteError(
                f"torch.export cannot trace {type(module).__name__} on a float32 input "
                f"[1, {channels}, {height}, {width}]: {first_line}; give it a forward that takes one "
                "image batch of this shape and has no control flow that depends on values."
            ) from error
    program.graph.eliminate_dead_code()
    return program


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for child, training in modes.items():
            child.training = training
