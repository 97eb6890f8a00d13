"""Variables: the names of every environment variable that ggend reads, and those it does not know.

A `GGEND_…` that nobody reads is most likely a slip, and may as well belong to another program: it
is reported and stops nothing. A value is never reported, since it may be a secret.
"""

from __future__ import annotations

from collections.abc import Mapping

from ggend.config import Config
from ggend_schema.spelling import nearest

__all__ = ["COMMAND_VARIABLES", "KNOWN_VARIABLES", "unknown_variables"]

_PREFIX = "GGEND_"

#: What the daemon reads: each key of its configuration.
_SETTINGS = tuple(f"{_PREFIX}{key.upper()}" for key in Config.__struct_fields__)

#: What commands and clients read beside the settings, and what it means.
COMMAND_VARIABLES: Mapping[str, str] = {
    "GGEND_AGENT": "The agent of events that name none.",
    "GGEND_CONFIG": "The TOML file to read instead of the default ones.",
    "GGEND_DEBUG": "1: clients log why each event was dropped, not only the first of a kind.",
    "GGEND_DISABLED": "1: clients send nothing.",
    "GGEND_EXECUTION": "The execution of events that name none.",
    "GGEND_PAGER": "The pager, instead of PAGER; empty or `cat`: none.",
    "GGEND_SERVICE": "The name of a client in the list of producers.",
    "GGEND_SESSION": "The session of events that name none.",
    "GGEND_SPOOL_DIR": "Where clients keep events until the daemon answers; empty: nowhere.",
    "GGEND_STRICT": "1: clients raise on an invalid event instead of dropping it.",
}

#: What `clients/shell/ggend.sh` reads and sets.
_SHELL = ("GGEND_DROPPED", "GGEND_TIMEOUT")

#: What `./dev` and the tests read.
_DEVELOPMENT = ("GGEND_PYTHON", "GGEND_TEST_PATIENCE", "GGEND_TEST_TOOLS")

#: Every variable that has a meaning for some part of ggend.
KNOWN_VARIABLES = frozenset({*_SETTINGS, *COMMAND_VARIABLES, *_SHELL, *_DEVELOPMENT})


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the set variables that begin with GGEND_ and are not known, each with a hint."""
    return {
        name: _hint(name)
        for name in sorted(environ)
        if name.startswith(_PREFIX) and environ[name] and name not in KNOWN_VARIABLES
    }


def _hint(name: str) -> str:
    # Without what all have in common, by which any two are alike.
    known = sorted(one.removeprefix(_PREFIX) for one in KNOWN_VARIABLES)
    similar = nearest(name.removeprefix(_PREFIX).upper().replace("-", "_"), known)
    if similar is None:
        return "no part of ggend reads it; `ggend config show` lists the settings"
    return f"did you mean `{_PREFIX}{similar}`?"
