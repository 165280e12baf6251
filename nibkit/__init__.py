"""nibkit: train, measure and use image-generation CNNs that do not go flat."""

__version__ = "0.1.0"
