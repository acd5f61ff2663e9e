"""One hand, followed from frame to frame.

A frame's landmarks say where the next frame is cropped; the palm detector works only when there is no hand to
follow, as in MediaPipe's hand_landmark_tracking graph. Unlike there, it then works in the same frame, not the
next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from subbyte.errors import InputError
from subbyte.hands.landmarks import Hand, LandmarkNetwork
from subbyte.hands.palm import PalmDetector
from subbyte.hands.region import Region, from_landmarks
from subbyte.hands.warp import pixels, warp

MIN_PRESENCE = 0.5
MAX_PALMS = 4  # that are looked at before a frame has no hand
STAGES = ("palm", "crop", "landmarks")


@dataclass(frozen=True, eq=False)
class Seen:
    """What a frame shows. hand: None if no hand. seconds: of each of STAGES that there was: `palm` with its
    resize and decoding. tracked: the hand is where the last frame's was, and no palm was looked for."""

    hand: Hand | None
    seconds: Mapping[str, float]
    tracked: bool


class Tracker:
    """Follows the most certain hand.

    min_presence: below this probability, from 0 to 1, there is no hand.
    """

    def __init__(
        self, palm: PalmDetector, landmarks: LandmarkNetwork, min_presence: float = MIN_PRESENCE
    ) -> None:
        if not 0 <= min_presence <= 1:
            raise InputError(f"min_presence must be from 0 to 1, not {min_presence}")
        self.palm, self.landmarks, self.min_presence = palm, landmarks, min_presence
        self._next: Region | None = None

    def forget(self) -> None:
        """What comes has nothing to do with what was seen: the next frame's palm is looked for."""
        self._next = None

    def see(self, image: np.ndarray) -> Seen:
        """The hand in the next frame, uint8 [H, W, 3]. Raises InputError if it is no such image."""
        frame, watch = pixels(image), Stopwatch()
        followed = self._next is not None
        hand = None if self._next is None else self._look(frame, self._next, watch)
        if hand is None:
            followed = False
            hand = next(self._found(frame, watch), None)
        self._next = None if hand is None else self._following(hand)
        return Seen(hand, watch.seconds, followed)

    def _found(self, frame: np.ndarray, watch: Stopwatch) -> Iterator[Hand]:
        """Hands, where palms are."""
        with watch.of("palm"):
            palms = self.palm.find(frame)
        for palm in palms[:MAX_PALMS]:
            try:
                region = palm.region(self.landmarks.size)
            except InputError:  # a box without extent
                continue
            hand = self._look(frame, region, watch)
            if hand is not None:
                yield hand

    def _look(self, frame: np.ndarray, region: Region, watch: Stopwatch) -> Hand | None:
        with watch.of("crop"):
            x = warp(frame, region)
        with watch.of("landmarks"):
            hand = self.landmarks.read(self.landmarks.session.run(x), region)
        return hand if hand.presence >= self.min_presence and np.isfinite(hand.points).all() else None

    def _following(self, hand: Hand) -> Region | None:
        try:
            return from_landmarks(hand.points, self.landmarks.size)
        except InputError:  # points that span nothing
            return None


class Stopwatch:
    """Adds up seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Counts what happens inside."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - start
