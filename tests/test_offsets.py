"""Quality at a place in the noise field that was never trained on is equal to that at (0, 0)."""

import torch

from nibkit.cli import train
from nibkit.data.builtin import BuiltinData
from nibkit.data.images import to_tensor
from nibkit.metrics.psnr import filtered_psnr
from tasks.halftoning import HalftoningTask


def test_quality_does_not_depend_on_the_origin(tmp_path):
    options = [
        "task=halftoning", "task.sigma=1.2", "backbone.width=16", "backbone.blocks=5",
        "data.batch_size=4", "data.crop_size=40",
        "data.num_workers=0", "task.optimizer.lr=0.003", "trainer.max_steps=400", "trainer.limit_val_batches=1",
        "trainer.limit_test_batches=1", "callbacks.spectrum=null", "data.test_crop=64", f"run_dir={tmp_path / 'run'}",
    ]  # fmt: skip
    train(options)
    task = HalftoningTask.load_from_checkpoint(tmp_path / "run/checkpoints/last.ckpt").eval()
    data = BuiltinData()
    data.prepare()
    photo = to_tensor(data.evaluation_images["val"]["photo"].read(0))[None]
    # (0, 0), beyond the square that crops are read in, and before it
    origins = [(0, 0), (2**21, 5), (-7, 2**22 + 3), (2**24, 2**24), (-(2**20), -(2**20)), (12345678, 9)]
    with torch.inference_mode():
        psnr = [filtered_psnr(task.render(photo, torch.tensor([o])), photo, 2.0).item() for o in origins]
    assert min(psnr) > 18  # it has learned: a black image has 8 dB
    assert max(psnr) - min(psnr) < 0.3, psnr
