import pytest
from typer.testing import CliRunner

from pipelines.training.cli import models


def test_networks_and_recipes_are_listed() -> None:
    said = CliRunner().invoke(models, ["list", "--networks"])
    assert said.exit_code == 0
    assert all(name in said.output for name in ("joint:no-guidance", "swin-unetr", "five-slices"))


@pytest.mark.parametrize("command", ["train", "evaluate", "compare", "list", "phantom"])
def test_every_command_has_help(command: str) -> None:
    said = CliRunner().invoke(models, [command, "--help"])
    assert said.exit_code == 0
    assert "--" in said.output
