"""Two machines, as far as one can be two: network namespaces with nothing but a cable between them."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import BARE, TINY

from nibkit.cli import train

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent.parent
STEPS, BATCH = 10, 4  # of both machines together
SETTINGS = [
    *TINY, *BARE, "task=dithering", "trainer.precision=64-true", f"trainer.max_steps={STEPS}",
    "data.samples_per_epoch=12", "task.schedule.warmup=0", "task.optimizer.lr=0.003", "task.schedule.name=constant",
]  # fmt: skip


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def machines():
    """Two namespaces' names, cables' ends and addresses; removed whatever happens."""
    if shutil.which("ip") is None:
        pytest.skip("two machines need the command ip (Debian's package iproute2)")
    names = [f"nibkit-{os.getpid()}-{index}" for index in (0, 1)]
    cables = [f"nib{os.getpid() % 10**6}{end}" for end in "ab"]  # at most 15 characters
    addresses = ["10.77.0.1", "10.77.0.2"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, which leaves nothing behind
    with contextlib.ExitStack() as stack:
        try:
            for name in names:
                ip("netns", "add", name)
                stack.callback(ip, "netns", "delete", name)
            ip("link", "add", cables[0], "netns", names[0], "type", "veth", "peer", cables[1], "netns", names[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"two machines need root's rights over the network: {error.stderr.strip()}")
        for name, cable, address in zip(names, cables, addresses, strict=True):
            ip("-netns", name, "address", "add", f"{address}/24", "dev", cable)
            ip("-netns", name, "link", "set", cable, "up")
            ip("-netns", name, "link", "set", "lo", "up")
        yield list(zip(names, cables, addresses, strict=True))


def start(machine, rank, master, settings):
    """Start torchrun on a machine, as docs/cluster.md says."""
    name, cable, address = machine
    torchrun = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(rank),
                "--master-addr", master, "--master-port", "29500", "--local-addr", address]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "NIBKIT_RUN_ID"}
    environment |= {"GLOO_SOCKET_IFNAME": cable, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = ["ip", "netns", "exec", name, sys.executable, *torchrun, str(ROOT / "train.py"), *settings]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            start_new_session=True)  # fmt: skip


def finish(processes):
    """Wait for both; return their exit codes and what they printed. None outlives it."""
    try:
        outputs = [process.communicate(timeout=300)[0] for process in processes]
        return [process.returncode for process in processes], outputs
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)  # torchrun takes its own with it
                process.wait(timeout=60)


def weights(run):
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == STEPS
    state = checkpoint["state_dict"]
    assert all(value.dtype == torch.float64 for value in state.values() if value.is_floating_point())
    return torch.cat([value.double().flatten() for value in state.values()])


def test_two_machines_learn_as_one_process(images, machines, tmp_path):
    settings = [*SETTINGS, f"data.root={images}"]
    several = ["trainer=ddp", "trainer.num_nodes=2", "trainer.devices=1", f"data.batch_size={BATCH // 2}"]
    master = machines[0][2]
    codes, outputs = finish([start(m, rank, master, [*settings, *several]) for rank, m in enumerate(machines)])
    assert codes == [0, 0], "\n".join(output[-3000:] for output in outputs)
    (run,) = (tmp_path / "outputs/dithering").iterdir()
    assert (run / "metrics.json").is_file()
    train([*settings, f"data.batch_size={BATCH}", "run_dir=one"])
    one, both = weights(tmp_path / "one"), weights(run)
    assert float((one - both).norm() / one.norm()) < 1e-5
