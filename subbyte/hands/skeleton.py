"""The 21 landmarks of a hand, their order and names.

0 is the wrist; then four for each finger, from the palm to the tip: thumb 1 to 4, index 5 to 8, middle 9 to
12, ring 13 to 16, little finger 17 to 20.
"""

from __future__ import annotations

from itertools import pairwise

JOINTS = 21
WRIST = 0
MIDDLE = 9  # the middle finger's knuckle (metacarpophalangeal joint)
FINGERS = {
    "thumb": (1, 2, 3, 4),
    "index": (5, 6, 7, 8),
    "middle": (9, 10, 11, 12),
    "ring": (13, 14, 15, 16),
    "little": (17, 18, 19, 20),
}
#: Pairs of joints that bones connect, the outline of the palm among them.
BONES = (
    *((0, 1), (0, 5), (5, 9), (9, 13), (13, 17), (0, 17)),
    *((a, b) for joints in FINGERS.values() for a, b in pairwise(joints)),
)
