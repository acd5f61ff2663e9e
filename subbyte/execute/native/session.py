"""Session: a loaded network, ready to run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from subbyte import _native
from subbyte.artifact import Artifact, load
from subbyte.errors import InputError
from subbyte.execute.images import checked
from subbyte.execute.native.lower import lower
from subbyte.ir import Graph, verify

MAX_MEMORY = 1 << 48  # bytes, of what a CPU can address


def available_isas() -> list[str]:
    """Instruction sets that this CPU can run, slowest first.

    Of "portable", "avx2", "avxvnni", "avx512vnni" and, on 64-bit ARM, "neondotprod", "neoni8mm".
    """
    return list(_native.available_isas())


def best_isa() -> str:
    """The instruction set that a Session takes unless told otherwise."""
    return str(_native.best_isa())


class Session:
    """A network loaded into the native engine.

    Everything is planned and allocated here; `run` allocates only its result. `run` may be called
    from several threads at once: `streams` calls proceed side by side, each on `threads` threads,
    further ones wait.

    source: path of an artifact, an Artifact, or a Graph. isa: one of `available_isas()`. depth_first_above:
    tensors of more bytes than this are not kept whole where that can be avoided; the layers around them
    run row tile by row tile, so that what passes between them stays in the cache (same results;
    None: never). memory_limit: bytes of the engine's weights, arenas and scratch memory together; None: in
    proportion to the network's shapes and weights, more than any network of use needs
    (docs/spec/artifact.md, "Running").

    graph: what runs, without its parameters.

    Raises:
        ArtifactError: the file is damaged or not an artifact.
        InputError: threads, streams or isa cannot be had here; the network needs more memory than
            memory_limit.
    """

    def __init__(
        self,
        source: str | Path | Artifact | Graph,
        *,
        threads: int = 1,
        isa: str | None = None,
        streams: int = 1,
        depth_first_above: int | None = 160 * 1024,
        memory_limit: int | None = None,
    ) -> None:
        for name, count in (("threads", threads), ("streams", streams)):
            if type(count) is not int or not 1 <= count <= 256:
                raise InputError(f"{name} must be a whole number from 1 to 256, got {count!r}")
        limit = 0 if memory_limit is None else memory_limit
        if type(limit) is not int or not (0 < limit <= MAX_MEMORY or memory_limit is None):
            raise InputError(f"memory_limit must be None or a number of bytes, got {memory_limit!r:.80}")
        chosen = best_isa() if isa is None else isa
        if chosen not in available_isas():
            raise InputError(f"this CPU cannot run {chosen!r}; available: {', '.join(available_isas())}")
        opened = load(source) if isinstance(source, (str, Path)) else source
        graph = opened.graph if isinstance(opened, Artifact) else verify(opened)
        self.isa, self.threads, self.streams = chosen, threads, streams
        # weights live on as the kernels read them, and nowhere else
        self.graph = replace(graph, nodes=tuple(node.with_(params={}) for node in graph.nodes))
        with self._clear_errors():
            self._model = _native.Model(
                **lower(graph),
                isa=chosen,
                threads=threads,
                streams=streams,
                depth_first_above=-1 if depth_first_above is None else depth_first_above,
                memory_limit=limit,
            )
        del opened, graph
        _native.trim()

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """What the engine throws, as errors that say what to do."""
        try:
            yield
        except ValueError as error:
            raise InputError(f"the engine refuses this network: {error}") from None
        except MemoryError:
            raise InputError("this machine does not give as much memory as that takes; free some") from None
        except RuntimeError as error:
            raise InputError(
                f"this machine cannot start {self.streams} x {self.threads} threads ({error}); ask for fewer"
            ) from None

    def run(self, x: np.ndarray) -> Any:
        """Runs the network.

        x: float32 [N, H, W, C] or [H, W, C], preprocessed. Returns float32 [N, ...], the network's
        output (codes as the numbers they stand for); a tuple of them where the network has several.

        Raises InputError if x has another shape or dtype, is empty, or holds NaN or infinity, and if
        memory for the result is lacking. A forked process may run a session of its parent's: its first
        run starts threads of its own (InputError if it cannot).
        """
        batch = self._check(x)
        with self._clear_errors():
            results = self._model.run(batch)
        shapes = [self.graph.value(name).shape for name in self.graph.outputs]
        outputs = tuple(r.reshape(len(r), *s) for r, s in zip(results, shapes, strict=True))
        return outputs[0] if len(outputs) == 1 else outputs

    def _check(self, x: np.ndarray) -> np.ndarray:
        expected = self.graph.value(self.graph.input).shape
        one = isinstance(x, np.ndarray) and x.ndim == len(expected)
        batch = checked(self.graph, x[None] if one else x)
        if len(batch) == 0:
            raise InputError(f"input must be at least one image, got {list(x.shape)}")
        if len(expected) == 1:
            batch = batch.reshape(len(batch), 1, 1, expected[0])
        return np.ascontiguousarray(batch)

    def plan(self) -> list[dict[str, Any]]:
        """What the engine does, a row per step: name, op, kernel, isa, macs, weight_bytes (resident),
        buffer_offset and buffer_bytes (in the arena) and shape of the output, live_bytes (all buffers that
        exist while it runs).

        Formats, as texts of subbyte.quant.format: requested_weights, as the graph has them ("" for a step
        without weights), executed_weights, as they lie in memory and are multiplied ("int16 (Winograd)"
        where filters were transformed, "int8+4x16:50" where zero blocks of 4 inputs x 16 outputs are skipped
        and 50 % of all, rounded up, are left), requested_activations and executed_activations, of what the
        step reads.

        Steps of one depth-first region (-1: none) have its number in region; row_tiles: how many it has,
        tile_rows: the most rows that the step makes in one, line_buffer_rows: how many rows of its output
        exist at a time (0: all)."""
        return list(self._model.steps())

    def profile(self, x: np.ndarray, repeats: int = 10) -> list[float]:
        """Median seconds of each step of `plan()` over `repeats` runs of x (one image at a time)."""
        image = self._check(x)[:1]
        with self._clear_errors():
            times = [self._model.profile(image) for _ in range(repeats)]
        return [float(t) for t in np.median(times, axis=0)]

    @property
    def arena_bytes(self) -> int:
        """Activation memory of one stream, bytes."""
        return int(self._model.arena_bytes)

    @property
    def scratch_bytes(self) -> int:
        """Memory that one stream's threads work in, bytes."""
        return int(self._model.scratch_bytes)

    @property
    def weight_bytes(self) -> int:
        """Resident bytes of weights, biases, multipliers and tables, as the kernels read them."""
        return int(self._model.weight_bytes)
