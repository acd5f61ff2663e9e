"""import_model: what a network can be read from, and what is wrong with a source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import subbyte
from subbyte import Preprocessing, compress_model, import_model, models
from subbyte.artifact.digest import graph_digest
from subbyte.errors import ArtifactError, InputError, UnsupportedOperatorError
from subbyte.importers import IMPORTERS, Imported, importer_of

PREPROCESSING = Preprocessing(8, 8, (0.25,) * 3, (0.5,) * 3, crop_mode="squash", crop_fraction=1.0)
IMAGES = np.random.default_rng(1).standard_normal((6, 8, 8, 3)).astype(np.float32)
SOURCE = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
"""
CLASSES = ("ant", "bee", "cat")


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "own.py"
    path.write_text(SOURCE)
    return f"{path}:build"


def module() -> nn.Module:
    namespace: dict[str, Callable[[], nn.Module]] = {}
    exec(SOURCE, namespace)
    return namespace["build"]().eval()


def test_a_module_a_file_and_its_artifact_are_one_network(file: str, tmp_path: Path) -> None:
    given = import_model(module(), preprocessing=PREPROCESSING)
    by_file = import_model(file, preprocessing=PREPROCESSING)
    path = tmp_path / "fp32.subbyte"
    subbyte.save(path, compress_model(given, "fp32", classes=CLASSES, provenance={"licence": "mine"}))
    again = import_model(path)
    assert graph_digest(given.graph) == graph_digest(by_file.graph) == graph_digest(again.graph)
    assert given.preprocessing == by_file.preprocessing == again.preprocessing == PREPROCESSING
    assert (given.provenance, given.classes) == ({}, None)
    assert by_file.provenance == {"model": file, "weights": {"source": "module", "callable": file}}
    assert again.classes == CLASSES
    assert again.provenance["licence"] == "mine"
    assert again.provenance["artifact"]["file"] == "fp32.subbyte"
    files = []
    for number, source in enumerate((given, again)):
        artifact = compress_model(source, "w4a8", [IMAGES], classes=CLASSES)
        files.append(graph_digest(artifact.graph))
        assert artifact.classes == CLASSES, number
    assert files[0] == files[1]


def test_a_compressed_artifact_is_refused(tmp_path: Path) -> None:
    for recipe in ("w8a8", "w4a4"):
        path = tmp_path / f"{recipe}.subbyte"
        subbyte.save(path, compress_model(module(), recipe, [IMAGES], preprocessing=PREPROCESSING))
        with pytest.raises(InputError, match=r"is compressed already; give the float32 artifact"):
            import_model(path)
    half = subbyte.load_recipe("fp32").model_copy(update={"precision": "fp16"})
    subbyte.save(path, compress_model(module(), half, preprocessing=PREPROCESSING))
    with pytest.raises(InputError, match="is compressed already"):
        import_model(path)
    path.write_bytes(b"no artifact")
    with pytest.raises(ArtifactError):
        import_model(path)


def test_a_name_of_the_catalog() -> None:
    found = import_model("tf_efficientnet_lite0", weights="random:2")
    assert found.preprocessing == models.preprocessing("tf_efficientnet_lite0")
    assert found.provenance["model"] == "tf_efficientnet_lite0"
    assert found.provenance["weights"]["seed"] == 2
    assert not [node for node in found.graph.nodes if node.op == "batch_norm"]
    with pytest.raises(InputError, match="needs weights: a checkpoint file, hub, package or random"):
        import_model("tf_efficientnet_lite0")
    with pytest.raises(InputError, match="No model is called 'lite0'"):
        import_model("lite0")


def test_what_does_not_fit_together(file: str) -> None:
    with pytest.raises(InputError, match="Sequential needs a preprocessing, which says what its input is"):
        compress_model(module(), "w8a8", [IMAGES])
    with pytest.raises(InputError, match=r"own.py:build needs a preprocessing"):
        import_model(file)
    with pytest.raises(InputError, match="Sequential has weights of its own"):
        import_model(module(), weights="random", preprocessing=PREPROCESSING)
    with pytest.raises(InputError, match="lite0 says itself what its input is"):
        import_model("tf_efficientnet_lite0", weights="random", preprocessing=PREPROCESSING)
    with pytest.raises(InputError, match="an imported network has its weights and preprocessing"):
        import_model(import_model(module(), preprocessing=PREPROCESSING), weights="random")
    with pytest.raises(InputError, match="is a torch module, a name or a file, not a int"):
        import_model(3)  # type: ignore[arg-type]


def test_an_imported_network_is_taken_as_it_is() -> None:
    given = import_model(module(), preprocessing=PREPROCESSING)
    assert isinstance(given, Imported)
    assert import_model(given) is given


def test_every_problem_is_in_the_error() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.LogSoftmax(1), nn.LogSoftmax(2))
    with pytest.raises(UnsupportedOperatorError, match="and 1 more") as error:
        import_model(network, preprocessing=PREPROCESSING)
    assert [problem.site.kind for problem in error.value.problems] == ["LogSoftmax", "LogSoftmax"]


@pytest.mark.parametrize(
    ("source", "row"),
    [
        ("efficientnet_b0", "name"),
        ("path/net.py:build", "file.py:callable"),
        ("net.py", "file.py:callable"),
        (Path("a.subbyte"), "artifact"),
        ("A.SUBBYTE", "artifact"),
        (torch.nn.ReLU(), "module"),
    ],
)
def test_the_row_of_a_source(source: object, row: str) -> None:
    assert importer_of(source) is IMPORTERS[row]
