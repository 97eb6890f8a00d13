"""Configuration: which files were read, wrong values, and variables that no part of ggend reads."""

from __future__ import annotations

import os

from ggend.config import config_files
from ggend.doctor.diagnosis import Diagnosis, failed, ok, warning
from ggend.doctor.installation import Installation
from ggend.variables import unknown_variables

__all__ = ["look_at_configuration"]

_SUBJECT = "configuration"


def look_at_configuration(installation: Installation) -> Diagnosis:
    """Say what the settings come from, and what is wrong with them."""
    error = installation.error
    if error is not None:
        hint = error.hint or "`ggend config show` lists the settings"
        return failed(_SUBJECT, error.message, hint, os.EX_CONFIG)
    files = config_files(installation.config_file, installation.environ, os.geteuid())
    sources = set(installation.loaded.sources.values()) if installation.loaded else set()
    variables = sorted(one for one in sources if one.startswith("GGEND_"))
    detail = ", ".join(map(str, files)) or "no file"
    detail += f"; variables {', '.join(variables)}" if variables else ""
    if not files and not variables:
        detail = "no file and no variable; the defaults apply"
    unknown = unknown_variables(installation.environ)
    if unknown:
        name, hint = next(iter(unknown.items()))
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        return warning(_SUBJECT, f"{detail}; unknown variable {name}{more}", hint)
    return ok(_SUBJECT, detail)
