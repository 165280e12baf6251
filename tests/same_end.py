"""How two runs ended: weights, averages, states of the optimizers, and logs."""

import csv

import torch


def ending(run):
    """The step of a run's last checkpoint, and all its tensors by name."""
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    tensors = checkpoint["state_dict"] | {f"ema {k}": v for k, v in checkpoint.get("nibkit_ema", {}).items()}
    states = [state for optimizer in checkpoint["optimizer_states"] for state in optimizer["state"].values()]
    tensors |= {f"{i} {k}": v for i, state in enumerate(states) for k, v in state.items()}
    return checkpoint["global_step"], tensors


def rows(run):
    """The lines of a run's log."""
    with (run / "logs" / "csv" / "metrics.csv").open() as file:
        # a validation that is made up for after the end of an epoch counts as of the next
        return [row | {"epoch": None} for row in csv.DictReader(file)]


def assert_same_end(run, wanted):
    """Raise unless two runs ended with the same bits."""
    (step, tensors), (wanted_step, wanted_tensors) = ending(run), ending(wanted)
    assert step == wanted_step, f"ended at step {step}, not {wanted_step}"
    assert tensors.keys() == wanted_tensors.keys()
    unequal = [name for name, value in wanted_tensors.items() if not torch.equal(tensors[name], value)]
    assert not unequal, f"other values of {unequal}"
    found, sought = rows(run), rows(wanted)
    assert found == sought, (
        f"lines of the log: {[row for row in (*found, *sought) if row not in found or row not in sought]}"
    )
