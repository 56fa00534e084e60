"""The platform, once for all tests: servers, Vault, S3, engine, Airflow."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "airflow")]


@pytest.fixture(scope="session")
def platform() -> Any:
    """All of it, started in order; ended in the other."""
    if os.getuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail("cannot start a Docker engine: it needs root")
        pytest.skip("!!! NOT TESTED: the whole platform. A Docker engine needs root")
    from whole import Platform

    with Platform(Path(os.environ["SANKOFA_WORK"])) as one:
        yield one
