"""What a setting names by a dotted path: ``package.module:factory``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from .errors import SettingsError


def factory_at(setting: str, path: str) -> Callable[..., Any]:
    """What *setting* names.

    Raises:
        SettingsError: there is no such module, it cannot be imported, or it has no such callable.
    """
    module_name, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as fault:
        raise SettingsError([_wrong(setting, path, str(fault))]) from fault
    if not callable(found):
        raise SettingsError([_wrong(setting, path, f"{name} is not callable")])
    return found  # type: ignore[no-any-return]


def _wrong(setting: str, path: str, fault: str) -> str:
    return f"{setting} = {path!r}: allowed is 'package.module:factory', but {fault}"
