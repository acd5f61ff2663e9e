"""Hands: palms found in an image, landmarks on each, and both followed from frame to frame.

Numpy and Pillow around two networks in the engine, such as MediaPipe's (docs/hands.md).
"""

from subbyte.hands.landmarks import Hand, LandmarkNetwork
from subbyte.hands.palm import Palm, PalmDetector
from subbyte.hands.region import Region, from_landmarks, from_palm
from subbyte.hands.score import Errors, score
from subbyte.hands.tracker import Seen, Tracker
from subbyte.hands.warp import crop, warp

__all__ = [
    "Errors",
    "Hand",
    "LandmarkNetwork",
    "Palm",
    "PalmDetector",
    "Region",
    "Seen",
    "Tracker",
    "crop",
    "from_landmarks",
    "from_palm",
    "score",
    "warp",
]
