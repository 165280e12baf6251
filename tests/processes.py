"""Runs on several processes that are started once for all."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN_ALL = """
import json, sys
from nibkit.config import load_config
from nibkit.run import run
for job in json.loads(sys.argv[1]):
    run(load_config(job))
"""


def several(ranks):
    """The settings of a run on so many processes."""
    return ["trainer.strategy=ddp", f"trainer.devices={ranks}"] if ranks > 1 else []


def run_together(jobs, ranks, folder):
    """Run lists of settings one after the other, on so many processes that are started once for all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank in range(ranks):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NIBKIT_RUN_ID": "together"}
        if ranks > 1:
            environment |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(ranks)}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, "-c", RUN_ALL, json.dumps(jobs)]
        processes.append(
            subprocess.Popen(
                command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    outputs = [process.communicate(timeout=500)[0] for process in processes]
    for process in processes:
        assert process.returncode == 0, "\n".join(each[-1500:] for each in outputs)
