"""The rooms of the package, lowest first: modules of a room import from their own and from lower ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Room:
    """A folder or file of subbyte/.

    needs: extras of pyproject.toml without which its modules cannot be imported; numpy is always there.
    later: extras whose packages they import inside functions only, where a user asks for what needs them.
    """

    name: str
    needs: tuple[str, ...] = ()
    later: tuple[str, ...] = ()


TORCH = ("cli", "torch")  # the extra "torch" brings "cli"
ROOMS = (
    Room("errors"),
    Room("system"),
    Room("system.toml", ("cli",)),
    Room("quant"),
    Room("ir"),
    Room("passes"),
    Room("preprocess"),
    Room("artifact"),
    Room("_native"),
    Room("execute"),
    Room("execute.torch", TORCH),
    Room("recipes", ("cli",)),
    Room("models", TORCH),
    Room("importers", later=TORCH),
    Room("importers.onnx", later=("onnx",)),
    Room("importers.torch_export", TORCH),
    Room("importers.torch_module", TORCH),
    Room("exporters", later=("peers",)),
    Room("data", ("cli",), later=("report",)),
    Room("metrics", ("cli",), later=("report",)),
    Room("tasks", ("cli",), later=("torch",)),
    Room("quantize", TORCH),
    Room("prune", TORCH),
    Room("device"),
    Room("steps", TORCH, later=("logs",)),
    Room("analysis", TORCH),
    Room("allocate", TORCH),
    Room("compress", TORCH),
    Room("training", TORCH),
    Room("benchmark", ("cli",), later=("peers",)),
    Room("report", ("cli",), later=("report",)),
    Room("hands", ("cli",), later=("video",)),
    Room("search", TORCH, later=("search", "ray")),
    Room("cli", ("cli",), later=("torch", "report", "peers", "search")),
)
#: What everyone enters by: these import from every room, and no room imports from them.
DOORS = ("subbyte", "subbyte.__main__")


def rank(module: str) -> int:
    """The place of a module's folder (or file) in the order; ValueError if it has none."""
    return [room.name for room in ROOMS].index(module.split(".")[1])


def room_of(module: str) -> Room:
    """The innermost room that a module lies in."""
    inside = f"{module.removeprefix('subbyte.')}."
    around = [room for room in ROOMS if inside.startswith(f"{room.name}.")]
    return max(around, key=lambda room: len(room.name))
