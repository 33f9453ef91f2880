"""Training settings as TOML files have them, under those of the command line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tterec.config import TrainingConfig
from tterec.errors import ConfigError


def training_config(
    path: Path | None = None, *, base: TrainingConfig | None = None, **flags: Any
) -> TrainingConfig:
    """Training settings: `base` or the defaults, under those of a TOML file, under flags that
    are not None.

    Unknown keys and values of a wrong type are refused with ConfigError.
    """
    config = base or TrainingConfig()
    if path is not None:
        config = replace(config, **read_settings(path))
    return replace(config, **{name: value for name, value in flags.items() if value is not None})


def settings_toml(settings: Mapping[str, Any]) -> str:
    """Training settings as TOML, one a line, such that `read_settings` returns the same."""
    lines = [
        f"{name} = {json.dumps(value) if isinstance(value, str | bool) else repr(value)}\n"
        for name, value in settings.items()
    ]
    return "".join(lines)


def read_settings(path: Path) -> dict[str, Any]:
    """The training settings that a TOML file names, checked for their types only.

    Raises ConfigError for an unknown one or a value of a wrong type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows marks UTF-8
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # a TOMLDecodeError, or what Python cannot hold
        raise ConfigError(f"{path} is not TOML: {error}") from error
    defaults = TrainingConfig()
    known: dict[str, type] = {
        field.name: type(getattr(defaults, field.name)) for field in fields(TrainingConfig)
    }
    for name, value in table.items():
        if name not in known:
            raise ConfigError(
                f"{path}: unknown setting {name!r}; known are {', '.join(sorted(known))}"
            )
        wanted = known[name]
        accepted = (int, float) if wanted is float else (wanted,)
        if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
            raise ConfigError(
                f"{path}: {name} = {value!r} is a {type(value).__name__}; write a {wanted.__name__}"
            )
        try:
            table[name] = wanted(value)
        except OverflowError as error:  # an int of 400 digits
            raise ConfigError(f"{path}: {name} is out of range; choose a smaller number") from error
    return table
