"""What ships with the package has to work where there is no data, no cache and no network."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No data sets, and nobody who answers."""

    def refuse(*args):
        raise OSError("this test is offline")

    monkeypatch.setenv("INNERLOOP_DATA", str(tmp_path / "no-data"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
