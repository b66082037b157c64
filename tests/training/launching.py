"""Starting torchrun, and one process for comparison."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import innerloop as il

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(il.__file__).parents[1])}


def start(processes: int, *words: object, restarts: int = 0) -> subprocess.Popen[str]:
    """``python WORDS``, in this many processes; more than one are torchrun's."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command += [f"--max-restarts={restarts}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *map(str, words)], env=ENVIRONMENT, start_new_session=True, **pipes)


def end(process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str, str]:
    """(exit code, stdout, stderr); what hangs is killed, with all that it has started."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        for pid in [*workers(process), process.pid]:
            os.kill(pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"hung; stdout: {out}\nstderr: {err}") from None
    return process.returncode, out, err


def workers(torchrun: subprocess.Popen[str]) -> list[int]:
    """The processes that torchrun has started, in order of rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            told = dict(line.split("=", 1) for line in (folder / "environ").read_text().split("\0") if "=" in line)
        except (OSError, ValueError, IndexError):
            continue
        if parent == torchrun.pid and "RANK" in told:
            found[int(told["RANK"])] = int(folder.name)
    return [found[rank] for rank in sorted(found)]
