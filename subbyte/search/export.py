"""The networks that were chosen, as files that the other commands read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from subbyte.allocate.recipe import to_toml
from subbyte.artifact.file import save
from subbyte.compress.model import compress_model
from subbyte.models import checkpoint
from subbyte.search.graph import recipe_of
from subbyte.search.space import Candidate
from subbyte.search.supernet import Supernet, network_of
from subbyte.system.text_file import write_text

MODULE = '''"""A network of the space {space}, found by `subbyte search`; weights: {stem}.safetensors."""

from subbyte.models.efficientnet import EfficientNet
from subbyte.models.tables import Architecture, Stage

NETWORK = {architecture}


def network():
    return EfficientNet(NETWORK, {outputs}).eval()
'''


def export(
    supernet: Supernet,
    candidate: Candidate,
    images: list[Tensor],
    stem: Path,
    classes: tuple[str, ...] | None,
    task: str | None,
) -> list[Path]:
    """Writes the candidate with its part of the shared weights and gives the files: `stem`.subbyte, a float32
    artifact; .safetensors, its checkpoint, and .py, the module that it fits, for `subbyte train` and
    `compress`; .toml, the recipe with the formats of its stages.

    images: float32 [N, 3, H, W] in batches, which the batch norms' statistics are estimated on. classes:
    names of the outputs. task: what they mean, if not classes. Raises InputError if a file cannot be written.
    """
    way = supernet.space.input(candidate.resolution)
    module = network_of(supernet, candidate, images, formats=False)
    named = {
        suffix: stem.with_name(f"{stem.name}{suffix}")
        for suffix in (".subbyte", ".safetensors", ".py", ".toml")
    }
    provenance: dict[str, Any] = {"model": f"a network of the space {supernet.space.name}"}
    artifact = compress_model(
        module, "fp32", preprocessing=way, classes=classes, provenance=provenance, task=task
    )
    save(named[".subbyte"], artifact)
    checkpoint.write(named[".safetensors"], module.state_dict(), way)
    text = MODULE.format(
        space=supernet.space.name,
        stem=stem.name,
        architecture=_indented(candidate),
        outputs=supernet.outputs,
    )
    write_text(named[".py"], text)
    write_text(named[".toml"], to_toml(recipe_of(candidate)))
    return list(named.values())


def _indented(candidate: Candidate) -> str:
    """The architecture as Python, a line a stage."""
    net = candidate.architecture
    stages = "".join(f"        {stage!r},\n" for stage in net.stages)
    return (
        f"Architecture(\n    stem={net.stem},\n    stages=(\n{stages}    ),\n    head={net.head},\n"
        f"    activation={net.activation!r},\n)"
    )
