import pickle

import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from nibkit.data.collate import BY_VALUE, Parcel, collate


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
    loader = DataLoader(data, batch_size=2, num_workers=workers, collate_fn=collate)
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
