"""The settings: each documented with its default and meaning, bad ones named."""

from pathlib import Path

from training.config import TrainConfig

PAGE = Path(__file__).parents[3] / "docs" / "training.md"


def shown(default: object) -> str:
    if default is None:
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_every_setting_is_documented_as_it_is() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, field in TrainConfig.model_fields.items():
        assert field.description, name
        row = f"| `{name}` | {shown(field.get_default(call_default_factory=True))} | {field.description} |"
        assert row in page, row


def test_nothing_is_documented_that_does_not_exist() -> None:
    table = PAGE.read_text(encoding="utf-8").split("## Settings")[1]
    rows = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert rows == list(TrainConfig.model_fields)


def test_the_digest_follows_the_settings() -> None:
    assert TrainConfig().digest() == TrainConfig().digest() != TrainConfig(dim=64).digest()
