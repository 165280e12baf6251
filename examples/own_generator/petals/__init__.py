"""A generator and a task of one's own, for nibkit."""

from petals.network import Petals
from petals.task import Clumps, PetalsTask

__all__ = ["Clumps", "Petals", "PetalsTask"]
