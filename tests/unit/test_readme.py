"""The README's tables are those of the code; a failing comparison shows the table to paste."""

from __future__ import annotations

import pytest

from lab import readme


@pytest.mark.parametrize(
    ("name", "expected"),
    [("labels", readme.labels_table()), ("settings", readme.settings_table()), ("injector", readme.injector_table())],
)
def test_a_generated_table_is_that_of_the_code(name: str, expected: str) -> None:
    assert readme.table(name) == expected


def test_every_section_with_commands_is_known_to_the_engine_tests() -> None:
    assert list(readme.sections()) == [
        "A sidecar by hand", "By label", "Who may call", "A Swarm service", "Every node of a Swarm", "Compose",
    ]  # fmt: skip
