"""What was measured and how; every figure is a ratio taken in one run."""
