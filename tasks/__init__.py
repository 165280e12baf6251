"""Tasks: Lightning modules that train, judge and use a backbone. One file each; ``base.py`` is the contract."""
