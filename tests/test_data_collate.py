"""Batches on their way from a loader's process."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from nibkit.data.collate import BY_VALUE, PIPE, Parcel, collate, wide_pipes


class Squares(torch.utils.data.Dataset):
    """Samples with an image of so many bytes and all kinds of small entries."""

    def __init__(self, size, length=5):
        self.size, self.length = size, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return {
            "image": torch.full((self.size // 4,), float(index)),
            "origin": torch.tensor([index, 2**40]),
            "label": torch.full((2, 3), index, dtype=torch.uint8),
            "level": torch.tensor([index / 255]),
            "set": "photo",
            "name": f"image {index}",
            "draw": 2**32 - index,
        }


def same(first, second):
    assert type(first) is type(second) is dict
    assert list(first) == list(second)
    for key, value in first.items():
        assert type(value) is type(second[key])
        if isinstance(value, torch.Tensor):
            assert value.dtype == second[key].dtype
            assert torch.equal(value, second[key])
            value.add_(1)  # what has arrived is the trainer's own
        else:
            assert value == second[key]


@pytest.mark.parametrize("size", [64, BY_VALUE // 2, BY_VALUE])
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_those_of_torch(size, workers):
    data = Squares(size)
    context = wide_pipes() if workers else None
    loader = DataLoader(data, batch_size=2, num_workers=workers, collate_fn=collate, multiprocessing_context=context)
    batches = list(loader)
    assert len(batches) == 3
    for number, batch in enumerate(batches):
        same(batch, default_collate([data[i] for i in range(2 * number, min(5, 2 * number + 2))]))


def test_only_small_tensors_are_copied():
    parcel = Parcel(image=torch.zeros(BY_VALUE // 4 + 1), small=torch.zeros(BY_VALUE // 4), name=["a"])
    _, (sent,) = parcel.__reduce__()
    assert isinstance(sent["image"], torch.Tensor)
    assert not isinstance(sent["small"], torch.Tensor)
    opened = pickle.loads(pickle.dumps(parcel))
    assert type(opened) is dict
    assert torch.equal(opened["small"], parcel["small"])
    assert opened["name"] == ["a"]


def test_samples_of_different_shapes_are_refused_as_by_torch():
    with pytest.raises(RuntimeError, match="equal size"):
        collate([{"image": torch.zeros(2)}, {"image": torch.zeros(3)}])


KILLED = """
import os, signal, time
from nibkit.data.builtin import BuiltinData

data = BuiltinData(crop_size=96, batch_size=8, num_workers=1, samples_per_epoch=4000)
data.prepare()
batches = iter(data.train_dataloader())
next(batches)
print(batches._workers[0].pid, flush=True)
time.sleep(2)  # the pipe fills
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_ends_with_the_process_that_it_serves():
    """Killed, a run cannot tell it; batches in the pipe that nobody reads must not keep it."""
    killed = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    worker = int(killed.stdout)
    for _ in range(200):  # torch looks every five seconds whether it is alone
        if not _alive(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("the worker stayed")


def _alive(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="pipes have another size elsewhere")
def test_a_pipe_holds_a_batch_that_nobody_reads_yet():
    import fcntl

    queue = wide_pipes().Queue()
    assert fcntl.fcntl(queue._writer.fileno(), fcntl.F_GETPIPE_SZ) == PIPE
    os.set_blocking(queue._writer.fileno(), False)  # full, it would refuse and not wait
    batch = {f"image {index}": torch.ones(BY_VALUE // 4) for index in range(2)}
    queue._writer.send_bytes(pickle.dumps(Parcel(batch)))
    arrived = pickle.loads(queue._reader.recv_bytes())
    assert all(torch.equal(batch[key], arrived[key]) for key in batch)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pipes_are_wide_with_every_way_to_start_processes(method, monkeypatch):
    monkeypatch.setattr("multiprocessing.get_start_method", lambda: method)
    context = wide_pipes()
    queue = context.Queue()
    process = context.Process(target=os.getpid)
    assert process._start_method == method
    queue.put("a batch")
    assert queue.get(timeout=10) == "a batch"
