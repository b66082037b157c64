"""Cases that a method does not take are left out of the contract, not skipped: there is nothing to hold it to."""

from __future__ import annotations

import pytest
from contract_table import declared


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def taken(item: pytest.Item) -> bool:
        params = getattr(getattr(item, "callspec", None), "params", {})
        return params.get("case") != "regression" or declared(params.get("name", "")).regression

    left = [item for item in items if not taken(item)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if taken(item)]
