"""A token is believed if we made it, and only for whom we made it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byfahrer.authority.errors import StateError
from byfahrer.authority.state import StateFolder
from byfahrer.authority.tokens import FILE, Bearer, Tokens

TARGET, SIDECAR = "a" * 64, "b" * 64
TOKENS = Tokens(bytes(32))
TOKEN = TOKENS.make(TARGET, SIDECAR)


def test_a_token_says_whose_sidecar_it_is():
    assert TOKENS.read(TOKEN) == Bearer(TARGET, SIDECAR)
    assert TOKEN.startswith(f"v1.{TARGET}.{SIDECAR}.")


def test_it_survives_a_restart_of_the_injector(tmp_path):
    folder = StateFolder(tmp_path / "state")
    token = Tokens.load(folder).make(TARGET, SIDECAR)

    assert Tokens.load(folder).read(token) == Bearer(TARGET, SIDECAR)
    assert (folder.path / FILE).stat().st_mode & 0o777 == 0o600


def test_another_injectors_token_is_none_of_ours(tmp_path):
    one, other = (Tokens.load(StateFolder(tmp_path / name)) for name in "ab")

    assert other.read(one.make(TARGET, SIDECAR)) is None


@pytest.mark.parametrize("at", range(len(TOKEN)))
def test_with_one_character_changed_it_is_no_token(at):
    changed = TOKEN[:at] + ("0" if TOKEN[at] != "0" else "1") + TOKEN[at + 1 :]

    assert TOKENS.read(changed) is None


@pytest.mark.parametrize(
    "text",
    ["", "v1", TOKEN + "\n", TOKEN + " ", " " + TOKEN, TOKEN.upper(), TOKEN[:-1], TOKEN + "0", TOKEN.replace(".", ":"),
     TOKEN.replace("a", "\uff41"), TOKEN.replace("v1", "v2"), TOKENS.make(SIDECAR, TARGET)[:131] + TOKEN[131:]],
)  # fmt: skip
def test_what_only_looks_like_a_token_is_none(text):
    assert TOKENS.read(text) is None


@settings(deadline=None)
@given(st.one_of(st.text(), st.builds(lambda a, b: TOKEN[:a] + b, st.integers(0, 200), st.text(max_size=200))))
def test_any_text_is_a_token_of_ours_or_none(text):
    assert TOKENS.read(text) == (Bearer(TARGET, SIDECAR) if text == TOKEN else None)


@pytest.mark.parametrize("content", [b"", b"00\n", b"0" * 64, b"\xff" * 65, b"0" * 64 + b"\n\n"])
def test_a_damaged_key_is_one_line_without_the_key(tmp_path, content):
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    folder.write(FILE, content)
    with pytest.raises(StateError, match=r"token\.key: expected 64 hexadecimal digits") as error:
        Tokens.load(folder)

    assert "0" * 64 not in str(error.value)
    assert folder.read(FILE) == content


def test_a_repr_shows_no_key():
    assert "0000" not in repr(Tokens(b"0" * 32))
