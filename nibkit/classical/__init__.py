"""Halftoning without a network: the methods that networks are compared with, most compiled with numba."""

from nibkit.classical.block_descent import block_descent
from nibkit.classical.direct_binary_search import direct_binary_search
from nibkit.classical.floyd_steinberg import floyd_steinberg
from nibkit.classical.methods import METHODS, Method, check_options, find_method, method_options, parse_options
from nibkit.classical.ostromoukhov import ostromoukhov
from nibkit.classical.pang import pang
from nibkit.classical.void_and_cluster import blue_noise_mask, void_and_cluster
from nibkit.classical.white_noise import white_noise

__all__ = [
    "METHODS",
    "Method",
    "block_descent",
    "blue_noise_mask",
    "check_options",
    "direct_binary_search",
    "find_method",
    "floyd_steinberg",
    "method_options",
    "ostromoukhov",
    "pang",
    "parse_options",
    "void_and_cluster",
    "white_noise",
]
