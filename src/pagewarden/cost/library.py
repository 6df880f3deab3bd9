"""Where profiles are: those shipped, the user's own, or a file; and how one is written."""

import json
from importlib import resources
from pathlib import Path

from pagewarden.cost.names import unit
from pagewarden.cost.profile import Profile, parse
from pagewarden.vocab import UserMistake, one_of
from pagewarden.vocab.places import config_home

MAX_SIZE = 1 << 20
"""Bytes a profile may have."""


def profile_directory() -> Path:
    """Where the user's own profiles are: $XDG_CONFIG_HOME/pagewarden/profiles (it need not exist). UserMistake: this
    user has no home."""
    home = config_home()
    if home is None:
        raise UserMistake("this user has no home directory for profiles; set HOME or XDG_CONFIG_HOME, or give a file")
    return home / "profiles"


def profile_names() -> tuple[str, ...]:
    """All profiles that load_profile finds by name, sorted."""
    return tuple(sorted(_shipped() | _own().keys()))


def shipped_profiles() -> tuple[Profile, ...]:
    """The profiles of the package, by name."""
    return tuple(_load_shipped(name) for name in sorted(_shipped()))


def load_profile(name_or_path: str | Path) -> Profile:
    """A profile by name (the user's own goes before a shipped one of the same name), or from a file.

    A Path, and text that has a slash or ends in .toml, is a file. UserMistake lists the names when there is none such,
    and says what is wrong with a file.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith(".toml"):
        return parse(_read(Path(name_or_path)), text)
    own = _own().get(text)
    if own is not None:
        return parse(_read(own), str(own))
    if text in _shipped():
        return _load_shipped(text)
    names = profile_names()
    try:
        return load_profile(one_of("profile", text, names))
    except UserMistake as mistake:
        where = f"your own belong into {profile_directory()}, or " if config_home() else ""
        raise UserMistake(f"{mistake}; {where}give a file's path") from None


def to_toml(profile: Profile) -> str:
    """The profile as a file; parse gives back the same prices."""
    lines = [f"name = {_string(profile.name)}", f"about = {_string(profile.about)}"]
    for name, price in profile.prices.items():
        u = unit(name)
        lines += ["", f"[prices.{name}]"]
        if price.parameter:
            lines += ["parameter = true", f"low_{u} = {price.value.low!r}", f"high_{u} = {price.value.high!r}"]
            lines += [f"why = {_string(price.why)}"]
        else:
            lines += [f"{u} = {price.value.low!r}"]
        lines += [f"source = {_string(price.source)}"] if price.source else []
    return "\n".join(lines) + "\n"


def _string(text: str) -> str:
    """A TOML basic string: JSON's, but TOML wants DEL escaped and has no surrogate pairs."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _shipped() -> set[str]:
    files = (resources.files("pagewarden.cost") / "profiles").iterdir()
    return {file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")}


def _load_shipped(name: str) -> Profile:
    return parse((resources.files("pagewarden.cost") / "profiles" / f"{name}.toml").read_text("utf-8"), "shipped")


def _own() -> dict[str, Path]:
    if config_home() is None:
        return {}
    return {path.stem: path for path in sorted(profile_directory().glob("*.toml"))}


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
        if len(data) > MAX_SIZE:
            raise UserMistake(f"{path}: more than {MAX_SIZE} bytes; expected a price profile in TOML")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserMistake(f"{path}: {why}; expected a price profile in TOML") from error
