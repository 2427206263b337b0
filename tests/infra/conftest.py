"""Terraform for the tests of `infra/`, where it can be had."""

from pathlib import Path

import pytest

from local.environment import CHECKOUT
from tests.infra.terraform_runs import Missing, Terraform, provider


@pytest.fixture(scope="session")
def provider_config() -> Path:
    """The CLI configuration that finds the schema-only provider."""
    try:
        return provider(CHECKOUT / ".zaphub" / "infra")
    except Missing as missing:
        pytest.skip(f"no AWS provider for Terraform: {missing}")


@pytest.fixture
def terraform(provider_config: Path, tmp_path: Path) -> Terraform:
    """Terraform over a copy of `infra/`."""
    return Terraform(provider_config, tmp_path)
