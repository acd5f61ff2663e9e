"""torch.export, as this package needs it: one image in, functional ATen operators out."""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from subbyte.errors import SubbyteError
from subbyte.importers.torch_export.sites import is_users
from subbyte.system.quiet import quiet

#: Operators that torch itself makes permutations and products of matrices of.
_WRITTEN_OUT = (torch.ops.aten.einsum.default, torch.ops.aten.tensordot.default)


def export(
    module: nn.Module, shape: tuple[int, int, int]
) -> tuple[torch.export.ExportedProgram, torch.export.ExportedProgram]:
    """`module` in evaluation mode on one image of `shape` (H, W, C): functional, and as it was traced.

    Only functionalized, not decomposed: in-place operators and aliases are gone, while conv2d,
    linear and the activations stay whole.

    Raises SubbyteError if torch.export cannot trace the module.
    """
    height, width, channels = shape
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    example = torch.zeros(1, channels, height, width, device=device)
    # quiet: torch's deprecations and its dumps of graphs that failed are nothing a user could act on
    with quiet(), _evaluation_mode(module), torch.no_grad():
        try:
            traced = torch.export.export(module, (example,), strict=False)
            program = functionalized(traced)
        except Exception as error:  # whatever the user's forward raises ends up here
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            where = _where(module, error)
            raise SubbyteError(
                f"torch.export cannot trace {type(module).__name__} on a float32 input "
                f"[1, {channels}, {height}, {width}]: {reason}{where}; give it a forward that takes one "
                "image batch of this shape and has no control flow that depends on values."
            ) from error
    return program, traced


def functionalized(traced: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program without in-place operators and aliases, its layers whole, sums over indices as products."""
    rules = torch.export.default_decompositions()
    written_out = {op: rules[op] for op in _WRITTEN_OUT}
    program: torch.export.ExportedProgram = traced.run_decompositions(written_out)
    program.graph.eliminate_dead_code()
    return program


def _where(module: nn.Module, error: BaseException) -> str:
    """Module, line and source of the innermost frame of the user's that raised `error`, or ""."""
    paths = {id(child): path for path, child in module.named_modules()}
    path = text = ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        path = paths.get(id(frame.f_locals.get("self")), path)
        file = frame.f_code.co_filename
        if is_users(file):
            text = f" at {file}:{number} ({linecache.getline(file, number).strip():.80})"
    return text + (f" in module {path!r}" if path else "")


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for child, training in modes.items():
            child.training = training
