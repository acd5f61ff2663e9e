"""The hub's real client against a stand-in: a local cache without network, and a local server."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

from subbyte import models
from subbyte.errors import SubbyteError

NAME = "tf_efficientnet_lite0"
REPO = "timm/tf_efficientnet_lite0.in1k"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {
    "architecture": NAME,
    "num_classes": 10,
    "pretrained_cfg": {
        "input_size": [3, 192, 192],
        "test_input_size": [3, 208, 208],
        "interpolation": "bilinear",
        "crop_pct": 0.9,
        "test_crop_pct": 0.95,
        "crop_mode": "squash",
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
    },
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ten-class checkpoint."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("hub") / "model.safetensors"
    save_file(models.create(NAME, num_classes=10).state_dict(), path)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return folder


def _fill(cache: Path, repo: str, weights: Path, config: object = None) -> None:
    folder = cache / f"models--{repo.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(weights)
    if config is not None:
        (snapshot / "config.json").write_text(json.dumps(config))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)


def _refusal(weights: str) -> str:
    with pytest.raises(SubbyteError) as caught:
        models.load(NAME, weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_default_repository(cache: Path, weights: Path) -> None:
    _fill(cache, REPO, weights)
    loaded = models.load(NAME, "hub")
    assert loaded.preprocessing == models.preprocessing(NAME)
    assert loaded.provenance == {
        "source": "hub",
        "repo": REPO,
        "commit": COMMIT,
        "url": f"https://huggingface.co/{REPO}",
        "preprocessing": "model default",
        "file": "model.safetensors",
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    assert loaded.module(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize("reference", ["me/mine", f"me/mine@{COMMIT}", "me/mine@main"])
def test_another_repository_brings_its_preprocessing(reference: str, cache: Path, weights: Path) -> None:
    _fill(cache, "me/mine", weights, CONFIG)
    loaded = models.load(NAME, f"hub:{reference}")
    assert loaded.provenance["repo"] == "me/mine"
    assert loaded.provenance["preprocessing"] == "repository"
    assert loaded.preprocessing.to_json() == {
        "height": 208,
        "width": 208,
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "interpolation": "bilinear",
        "crop_fraction": 0.95,
        "crop_mode": "squash",
    }


def test_configuration_of_another_model_is_refused(cache: Path, weights: Path) -> None:
    _fill(cache, "me/mine", weights, CONFIG | {"architecture": "efficientnet_lite0"})
    assert "is of efficientnet_lite0" in _refusal("hub:me/mine")


@pytest.mark.parametrize("config", [[], {"architecture": NAME}, {"num_classes": 3}, "x"])
def test_strange_configuration_is_refused(config: object, cache: Path, weights: Path) -> None:
    _fill(cache, "me/mine", weights, config)
    assert "not a timm configuration" in _refusal("hub:me/mine")


def test_damaged_weights_in_the_cache(cache: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no tensors here")
    _fill(cache, REPO, broken)
    assert "not a valid safetensors file" in _refusal("hub")


def test_neither_cached_nor_reachable(cache: Path) -> None:
    message = _refusal("hub")
    assert REPO in message
    assert "pass its path" in message


def test_bad_repository_name(cache: Path) -> None:
    assert "not the name of a hub repository" in _refusal("hub:a/b/c")


def test_client_not_installed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install huggingface_hub" in _refusal("hub")


def test_environment_variables_are_enough(weights: Path, tmp_path: Path) -> None:
    """What a user sets: HF_HUB_OFFLINE and the cache's place."""
    _fill(tmp_path, REPO, weights)
    code = f"from subbyte import models; models.load({NAME!r}, 'hub')"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


# ---------------------------------------------------------------------------- server


class _Hub(BaseHTTPRequestHandler):
    """Answers file requests as the hub does: files by path, and its error codes in a header."""

    files: dict[str, bytes]

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        content = self.files.get(self.path)
        if content is None:
            known = any(self.path.startswith(path.partition("/resolve/")[0]) for path in self.files)
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            content = b""
        else:
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """The files of a hub on this machine, by request path."""
    files: dict[str, bytes] = {}
    handler = type("Handler", (_Hub,), {"files": files})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{httpd.server_port}"
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        monkeypatch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        yield files
        httpd.shutdown()
        thread.join()


def test_download(server: dict[str, bytes], weights: Path) -> None:
    server["/me/mine/resolve/main/model.safetensors"] = weights.read_bytes()
    server["/me/mine/resolve/main/config.json"] = json.dumps(CONFIG).encode()
    loaded = models.load(NAME, "hub:me/mine")
    assert loaded.preprocessing.height == 208
    assert loaded.provenance["commit"] == COMMIT
    assert loaded.provenance["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_repository_without_configuration(server: dict[str, bytes], weights: Path) -> None:
    server["/me/mine/resolve/main/model.safetensors"] = weights.read_bytes()
    loaded = models.load(NAME, "hub:me/mine")
    assert loaded.preprocessing == models.preprocessing(NAME)
    assert loaded.provenance["preprocessing"] == "model default"


def test_repository_without_weights(server: dict[str, bytes]) -> None:
    server["/me/mine/resolve/main/config.json"] = json.dumps(CONFIG).encode()
    assert "holds no model.safetensors" in _refusal("hub:me/mine")


def test_no_such_repository(server: dict[str, bytes]) -> None:
    assert "shows no repository me/mine" in _refusal("hub:me/mine@v2")
