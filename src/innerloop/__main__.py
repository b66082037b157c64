"""``python -m innerloop``: the same as the ``innerloop`` command."""

from innerloop.cli.main import run

if __name__ == "__main__":
    run()
