"""A pipeline run whose stages are measured, and that never waits for the daemon."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from ggend_client import Client


def extract(source: str) -> list[str]:
    """Return the names in a source."""
    return source.split()


def main() -> None:
    """Run two stages and emit what they did."""
    with Client(agent="example") as client, client.execution(operation="generation") as run:
        with client.stage("extract") as stage:
            names = extract("alpha beta gamma")
            stage.output_size_bytes = sum(map(len, names))
        with client.stage("emit"), TemporaryDirectory() as place:
            for name in names:
                (Path(place) / name).write_text(name, encoding="utf-8")
        run.files_generated = len(names)
    # Leaving the first `with` waits a second at most; what is not acknowledged then is on disk.


if __name__ == "__main__":
    main()
