"""subbyte: extreme quantization and real-time inference of efficient convolutional networks."""

__version__ = "0.1.0"
