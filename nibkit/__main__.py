"""``python -m nibkit``."""

from nibkit.cli import main

main()
