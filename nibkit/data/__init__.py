"""Data: image sets, their checks, and the Lightning data modules that feed the tasks.

Every image tensor is in [-1, 1]: -1 black, 1 white.
"""
