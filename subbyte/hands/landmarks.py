"""From the outputs of a landmark network to a hand in the image.

Outputs, in this order, of which all but the first may be lacking: x, y and z of 21 points (or x and y alone)
in pixels of the input; the probability that a hand is there; that it is a right hand; x, y and z of the
points in metres, from the hand's centre. MediaPipe's hand_landmark networks have all four.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from subbyte.errors import InputError
from subbyte.hands.region import Region
from subbyte.hands.skeleton import JOINTS
from subbyte.hands.source import Source, session, unit
from subbyte.hands.warp import warp

Outputs = np.ndarray | tuple[np.ndarray, ...]

DEPTH = 0.4  # z of the network is that of a pixel of its input times this


@dataclass(frozen=True, eq=False)
class Hand:
    """A hand in an image.

    points: float64 [21, 2 or 3], x, y and depth (less is nearer; about 0 at the wrist) in pixels of the
    image. presence: the probability that it is one; 1 of a network that does not say. right: that it is a
    right hand, in a photograph that is not mirrored; None if unknown. world: float64 [21, 3], metres, turned
    as in the image; None if unknown. region: where it was looked for.
    """

    points: np.ndarray
    presence: float
    right: float | None
    world: np.ndarray | None
    region: Region


class LandmarkNetwork:
    """A landmark network in the engine.

    source, threads, isa: as Session takes them. Raises InputError of a network whose input is not square or
    whose outputs are not those of this module, and what Session raises.
    """

    def __init__(self, source: Source, threads: int = 1, isa: str | None = None) -> None:
        self.session, self.size = session(source, threads, isa)
        self.unit = unit(source, self.size)
        graph = self.session.graph
        sizes = [prod(graph.value(name).shape) for name in graph.outputs]
        if sizes[0] not in (2 * JOINTS, 3 * JOINTS) or sizes[1:] != [1, 1, 3 * JOINTS][: len(sizes) - 1]:
            raise InputError(
                f"the network's outputs have {sizes} numbers; a landmark network has {2 * JOINTS} or "
                f"{3 * JOINTS}, then 1, 1 and {3 * JOINTS}, or the first of these"
            )

    def find(self, image: np.ndarray, region: Region) -> Hand:
        """The hand in a region of an image uint8 [H, W, 3]; `presence` tells whether there is one."""
        return self.read(self.session.run(warp(image, region)), region)

    def read(self, outputs: Outputs, region: Region) -> Hand:
        """What its outputs of one image say, of which it saw a region."""
        return replace(hand_of(outputs, region.sized(self.unit)), region=region)


def hand_of(outputs: Outputs, region: Region) -> Hand:
    """What the outputs of a landmark network say, one image's [1, ...], of which it saw a region."""
    made = [one.astype(np.float64).ravel() for one in (outputs if isinstance(outputs, tuple) else (outputs,))]
    points = made[0].reshape(JOINTS, -1)
    places = region.to_image(points[:, :2])
    depth = points[:, 2:] * (region.side / region.size / DEPTH)
    turn = np.eye(3)
    turn[:2, :2] = region.axes * (region.size / region.side)
    return Hand(
        np.concatenate([places, depth], axis=1),
        float(made[1][0]) if len(made) > 1 else 1.0,
        float(made[2][0]) if len(made) > 2 else None,
        made[3].reshape(JOINTS, 3) @ turn if len(made) > 3 else None,
        region,
    )
