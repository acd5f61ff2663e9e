"""The network to train: made, started, and told how much of it to leave out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from subbyte import models
from subbyte.errors import InputError
from subbyte.importers.table import importer_of
from subbyte.importers.torch_module import built
from subbyte.models import checkpoint
from subbyte.models.blocks import StochasticDepth
from subbyte.preprocess import Preprocessing
from subbyte.training.settings import Settings


def make(model: str, weights: str | None, classes: int, seed: int) -> nn.Module:
    """A name of the catalog, or `file.py:callable`, as a network to train, with weights if given.

    A network of the catalog gets `classes` outputs: weights of another number start it with a new classifier.
    Raises InputError for an unknown name, or unusable weights.
    """
    torch.manual_seed(seed)
    if importer_of(model).own_input:
        module = built(model)
        if weights is not None:
            checkpoint.fit(checkpoint.read(Path(weights)), module, weights)
        return module
    if weights is None:
        module = models.create(model, classes)
        initialize(module)
        return module
    module = models.load(model, weights).module
    classifier: Any = module.classifier
    if classifier.out_features != classes:
        module.classifier = nn.Linear(classifier.in_features, classes)
        initialize(module.classifier)
    return module


def initialize(module: nn.Module) -> None:
    """Kernels N(0, 2 / fan-out), biases 0, classifiers U(-1, 1) / sqrt(inputs);
    batch norms 1 and 0. Drawn from torch's generator."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            fan_out = child.kernel_size[0] * child.kernel_size[1] * child.out_channels // child.groups
            nn.init.normal_(child.weight, 0.0, math.sqrt(2.0 / fan_out))
        elif isinstance(child, nn.Linear):
            bound = 1.0 / math.sqrt(child.in_features)
            nn.init.uniform_(child.weight, -bound, bound)
        if isinstance(child, (nn.Conv2d, nn.Linear)) and child.bias is not None:
            nn.init.zeros_(child.bias)


def set_dropout(module: nn.Module, rate: float) -> None:
    """The rate of every nn.Dropout in it."""
    for child in module.modules():
        if isinstance(child, nn.Dropout):
            child.p = rate


def set_stochastic_depth(module: nn.Module, rate: float) -> None:
    """The rate of every StochasticDepth in it: from 0 linearly up to `rate` in the last one."""
    found = [child for child in module.modules() if isinstance(child, StochasticDepth)]
    for i, child in enumerate(found):
        child.rate = rate * (i / max(1, len(found) - 1))


def check(module: nn.Module, preprocessing: Preprocessing, settings: Settings, classes: int) -> None:
    """Runs the network on one grey image of the size of every stage.

    Raises InputError if it fails there, or gives no vector of at least `classes` scores.
    """
    steps = settings.stages
    p = preprocessing
    parameter = next(module.parameters(), None)
    if parameter is None:
        raise InputError("the network has no parameters: there is nothing to train")
    for step in range(steps):
        height, width = settings.stage(step, steps).size(p.height, p.width)
        x = torch.zeros(1, p.channels, height, width, dtype=parameter.dtype)
        try:
            with torch.no_grad():
                y = module.eval()(x)
        except Exception as error:  # whatever a user's own forward raises
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"the network does not take images of {height} x {width}: {reason}; if it takes only larger "
                "ones, choose a larger first size (1 for no growth)"
            ) from None
        shape = list(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
        if not isinstance(y, torch.Tensor) or y.ndim != 2 or y.shape[1] < classes:
            raise InputError(
                f"the network answers an image with {shape}: training needs scores [1, n], n at least "
                f"{classes}, the number of classes"
            )
