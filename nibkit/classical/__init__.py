"""Classical halftoning, compiled with numba: the methods that networks are compared with."""

from nibkit.classical.floyd_steinberg import floyd_steinberg
from nibkit.classical.white_noise import white_noise

__all__ = ["floyd_steinberg", "white_noise"]
