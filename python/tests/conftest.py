"""What all tests share: a bundle of a small model that was never trained, and the command that must say the same of it.

`cargo xtask python` makes both and names them in the environment."""

import os
import random
from pathlib import Path

import pytest

import eager_rec


def named(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.exit(f"{variable} is not set; run these tests with `cargo xtask python`", returncode=2)
    return Path(value)


@pytest.fixture(scope="session")
def folder() -> Path:
    """The bundle's folder: items i0, i1, …, titled `Item number 0`, …; item n is of categories `all` and `c<n mod 9>`."""
    return named("EAGER_TEST_BUNDLE")


@pytest.fixture(scope="session")
def direct() -> eager_rec.Bundle:
    """The same of a model with a direct head."""
    return eager_rec.Bundle.load(named("EAGER_TEST_DIRECT"))


@pytest.fixture(scope="session")
def command() -> Path:
    """The program `eager`."""
    return named("EAGER_COMMAND")


@pytest.fixture(scope="session")
def bundle(folder: Path) -> eager_rec.Bundle:
    return eager_rec.Bundle.load(folder)


@pytest.fixture(scope="session")
def histories(bundle: eager_rec.Bundle) -> list[list[str]]:
    """Forty users with 1 to 30 items."""
    draw = random.Random(7)
    return [draw.choices(bundle.item_ids, k=draw.randint(1, 30)) for _ in range(40)]
