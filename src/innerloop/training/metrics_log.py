"""Metrics of a run: one JSON object a line, and TensorBoard where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO


class MetricsLog:
    """Writes ``metrics.jsonl`` and TensorBoard events into a run directory; does nothing without one."""

    def __init__(self, file: Path | None, start: int) -> None:
        self.file: TextIO | None = None
        self.board: Any = None
        if file is None:
            return
        kept = _until(file, start)
        file.write_text("".join(line + "\n" for line in kept))  # steps after the checkpoint are run again
        self.file = file.open("a")
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:  # the extra `log` is not installed
            return
        self.board = SummaryWriter(str(file.parent), purge_step=start + 1 if start else None)

    def write(self, step: int, split: str, values: dict[str, float], seconds: float) -> None:
        if self.file is None:
            return
        self.file.write(json.dumps({"step": step, "split": split, **values, "seconds": round(seconds, 3)}) + "\n")
        self.file.flush()
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        if self.board is not None:
            self.board.close()


def _until(file: Path, step: int) -> list[str]:
    """The lines of an earlier sitting up to ``step``; a half-written last line is dropped."""
    kept = []
    if step and file.exists():
        for line in file.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError):
                break
    return kept
