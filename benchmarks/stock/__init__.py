"""What a competent user would write from the papers with stock layers: the same networks, the same losses, plain steps.

No caching, no fused convolutions, torch's own memory layout, noise from torch. tests/test_benchmarks.py shows that
both sides compute the same numbers from the same weights and batch.
"""
