"""Train, test or predict: ``python train.py task=dithering``."""

from nibkit.cli import train

if __name__ == "__main__":
    train()
