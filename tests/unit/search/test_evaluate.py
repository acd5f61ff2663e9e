"""Training of the shared weights, the error of a candidate, and the files of a chosen one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

import subbyte
from subbyte.data.shards import labelled_images
from subbyte.errors import InputError
from subbyte.models import checkpoint
from subbyte.search import Space
from subbyte.search.evaluate import evaluator
from subbyte.search.export import export
from subbyte.search.supernet import Supernet, network_of
from subbyte.search.train import teacher_of, trained
from subbyte.tasks.table import TASKS
from subbyte.training.settings import Settings
from subbyte.training.views import normalized

CLASSES = TASKS["classification"]
SETTINGS = Settings(epochs=1, batch=8, stages=1, first_size=1.0, stochastic_depth=0.0)


@pytest.fixture(scope="module")
def supernet(space: Space, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Supernet:
    folder = tmp_path_factory.mktemp("supernet")
    read = labelled_images(images)
    torch.manual_seed(9)
    first = trained(space, 2, read, None, SETTINGS, folder, CLASSES)
    again = trained(space, 2, read, None, SETTINGS, folder, CLASSES)
    pairs = zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)  # what is finished is read
    with pytest.raises(InputError, match="another outputs"):
        trained(space, 3, read, None, SETTINGS, folder, CLASSES)
    return first


def test_errors_and_files(space: Space, supernet: Supernet, images: Path, tmp_path: Path) -> None:
    read = labelled_images(images)
    judge = evaluator(supernet, read, read, CLASSES)
    chosen = {name: values[0] for name, values in space.lists().items()}
    candidate = space.candidate({**chosen, "resolution": 24})  # the largest, which a teacher sees
    error = judge.error(candidate)
    assert error == judge.error(candidate)
    way = space.input(candidate.resolution)
    batches = [normalized(batch, way, torch.float32) for batch in judge.statistics[candidate.resolution]]
    artifact, weights, source, recipe = export(
        supernet, candidate, batches, tmp_path / "found", ("ant", "bee"), None
    )
    loaded = subbyte.load(artifact)
    assert loaded.classes == ("ant", "bee")
    assert loaded.preprocessing == way
    x = batches[0]
    with torch.no_grad():
        wanted = network_of(supernet, candidate, batches)(x).numpy()
    made = subbyte.Session(loaded).run(np.ascontiguousarray(x.numpy().transpose(0, 2, 3, 1)))
    # two engines add up float32 in other orders: a few units of 2^-24 a layer, beside outputs of about 1
    assert np.allclose(made, wanted, atol=1e-4)
    wrong = (wanted.argmax(1) != [sample.label for sample in read.samples]).mean()
    assert error == pytest.approx(wrong)
    spec = importlib.util.spec_from_file_location("found", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    checkpoint.fit(checkpoint.read(weights), module.network(), "found")
    assert subbyte.load_recipe(str(recipe)).name == "searched"
    # the artifact as a teacher of its own architecture: nothing is answered otherwise
    taught = evaluator(supernet, read, read, CLASSES, teacher_of(str(artifact)))
    assert taught.error(candidate) == 0.0
    numbers = evaluator(supernet, read, read, TASKS["regression"], teacher_of(str(artifact)))
    assert numbers.error(candidate) < 1e-4 < numbers.error(space.largest)


def test_learning_from_a_teacher_alone(
    space: Space, images: Path, supernet: Supernet, tmp_path: Path
) -> None:
    read = labelled_images(images)
    chosen = {name: values[0] for name, values in space.lists().items()}
    candidate = space.candidate(chosen)
    batch = torch.zeros(2, 3, 16, 16)
    artifact = export(supernet, candidate, [batch], tmp_path / "teacher", None, "regression")[0]
    settings = Settings(epochs=1, batch=8, stages=1, first_size=1.0, stochastic_depth=0.0, teacher_weight=1.0)
    teacher = teacher_of(str(artifact))
    folder = tmp_path / "taught"
    made = trained(space, 2, read, None, settings, folder, TASKS["regression"], teacher, str(artifact))
    assert all(torch.isfinite(p).all() for p in made.parameters())
