"""Two processes with half a batch each normalise, and learn, as one does with the whole batch."""

from datetime import timedelta
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from torch import distributed, multiprocessing, nn

from nibkit.ranks import mean_of_ranks, sum_of_ranks
from nibkit.sync_norm import CPUSyncBatchNorm, SyncNorms

KINDS = {
    "affine": {},
    "bare": {"affine": False},
    "untracked": {"track_running_stats": False},
    "cumulative": {"momentum": None},
}


def batch(step):
    return torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(step), dtype=torch.float64) * 2 + 1


def train(norm, share, ranks):
    """Two steps of a loss that every output enters; what is learnt, by name, and the answer in evaluation."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 3, 3, dtype=torch.float64)
    found = {}
    for step in range(2):
        image = batch(step)[share].requires_grad_()
        answer = norm(conv(image))
        loss = (answer**3 * torch.arange(3).reshape(3, 1, 1)).mean()
        loss.backward()
        found |= {f"image {step}": image.grad / ranks, f"answer {step}": answer.detach()}
    for name, weight in [*conv.named_parameters(), *norm.named_parameters()]:
        if ranks > 1:  # as DDP does
            distributed.all_reduce(weight.grad)
            weight.grad /= ranks
        found[f"gradient of {name} {tuple(weight.shape)}"] = weight.grad
    found |= norm.state_dict()
    return found | {"evaluation": norm.eval()(conv(batch(9)[share])).detach()}


def make(kind, norm_class):
    norm = norm_class(3, dtype=torch.float64, **KINDS[kind])
    if norm.affine:
        nn.init.constant_(norm.weight, 1.5)
    return norm


def work(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/rendezvous", timedelta(seconds=60), 2, rank)
    found = {kind: train(make(kind, CPUSyncBatchNorm), slice(rank, None, 2), 2) for kind in KINDS}
    value = torch.tensor(float(rank), requires_grad=True)
    (mean_of_ranks(value) ** 2).backward()
    found["ranks"] = {
        "mean": mean_of_ranks(value).detach(),
        "gradient": value.grad,
        "sum": sum_of_ranks(value).detach(),
    }
    with torch.no_grad():
        found["ranks"]["alone"] = mean_of_ranks(value)
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_are_one(answers, kind):
    whole = train(make(kind, nn.BatchNorm2d), slice(None), 1)
    if kind == "untracked":  # evaluated by the statistics of what each process has
        del whole["evaluation"]
    for name, wanted in whole.items():
        for rank in range(2):
            share = slice(rank, None, 2) if name.startswith(("image", "answer", "evaluation")) else slice(None)
            found = answers[rank][kind][name]
            torch.testing.assert_close(found, wanted[share] if wanted.dim() else wanted, rtol=1e-10, atol=1e-12)


def test_a_function_of_the_mean_over_ranks_has_the_gradient_of_the_whole_batch(answers):
    """The mean of 0 and 1 is .5; of its square the gradient by each value is .5, which averaging halves."""
    for rank in range(2):
        found = answers[rank]["ranks"]
        assert (float(found["mean"]), float(found["gradient"]), float(found["sum"])) == (0.5, 1.0, 1.0)
        assert float(found["alone"]) == rank


def test_one_process_is_any_batch_norm():
    for kind in KINDS:
        ours, torchs = (
            train(make(kind, CPUSyncBatchNorm), slice(None), 1),
            train(make(kind, nn.BatchNorm2d), slice(None), 1),
        )
        assert ours.keys() == torchs.keys()
        assert all(torch.equal(ours[name], torchs[name]) for name in ours)


class Conditional(nn.BatchNorm2d):
    """A batch norm of a user's own."""

    def forward(self, x, factor):
        return super().forward(x) * factor


def test_a_norm_of_the_users_own_stays_as_it_is():
    model = pl.LightningModule()
    model.norms = nn.ModuleList([nn.BatchNorm2d(3), Conditional(3), nn.BatchNorm1d(3), nn.GroupNorm(1, 3)])
    model._trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")))
    sync = SyncNorms()
    sync.apply(model)
    kinds = [CPUSyncBatchNorm, Conditional, CPUSyncBatchNorm, nn.GroupNorm]
    assert [type(layer) for layer in model.norms] == kinds
    sync.revert(model)
    assert [type(layer) for layer in model.norms] == [nn.BatchNorm2d, Conditional, nn.BatchNorm1d, nn.GroupNorm]
