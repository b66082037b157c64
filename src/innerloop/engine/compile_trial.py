"""``python -m innerloop.engine.compile_trial JOB``: what `compiling.Attempt` starts."""

from __future__ import annotations

import json
import sys

import torch

from innerloop.engine.compiling import trial


def main() -> None:
    # Our own file of a moment ago, in a folder that only this user can read.
    job = torch.load(sys.argv[1], weights_only=False)
    torch.set_num_threads(job["threads"])
    print(json.dumps(trial(job["graphs"], job["leaves"])))


if __name__ == "__main__":
    main()
