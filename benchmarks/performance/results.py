"""What has been measured, in a file that is written after each measurement."""

from __future__ import annotations

import json
from pathlib import Path

KEY = ("measure", "contender", "case", "round")


class Results:
    """A document of the file's: what was measured where, and every single value."""

    def __init__(self, path, document):
        self.path = Path(path)
        self.document = document

    @classmethod
    def read(cls, path, scale):
        """Those of *path*, or none yet.

        Raises:
            ValueError: they are of another scale.
        """
        path = Path(path)
        if not path.exists():
            return cls(path, {"scale": scale, "measurements": []})
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["scale"] != scale:
            raise ValueError(f"{path} is of scale {document['scale']}, not {scale}")
        return cls(path, document)

    def describe(self, **facts):
        """Of the machine, the servers, the versions."""
        for name, fact in facts.items():
            old = self.document.get(name)
            self.document[name] = {**old, **fact} if isinstance(old, dict) else fact
        self._write()

    def has(self, case, number):
        """Whether it has been measured; one that failed is tried again."""
        key = [case.measure, case.contender, case.name, number]
        return any(
            key == [one[name] for name in KEY] and "failed" not in one
            for one in self.document["measurements"]
        )

    def add(self, case, number, **told):
        key = dict(zip(KEY, (case.measure, case.contender, case.name, number), strict=True))
        others = [
            one for one in self.document["measurements"] if {name: one[name] for name in KEY} != key
        ]
        self.document["measurements"] = [*others, {**key, **told}]
        self._write()

    def _write(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written = self.path.with_suffix(".new")
        written.write_text(_text(self.document), encoding="utf-8")
        written.replace(self.path)


def _text(document):
    """JSON with one measurement a line, so that a diff of it can be read."""
    rest = {name: value for name, value in document.items() if name != "measurements"}
    head = json.dumps(rest, indent=2)[:-2]
    lines = ",\n".join(f"    {json.dumps(one)}" for one in document["measurements"])
    return f'{head},\n  "measurements": [\n{lines}\n  ]\n}}\n'


def found(document, measure):
    """{contender: {case: [figures of each round]}}, and what failed as its message."""
    told = {}
    for one in document["measurements"]:
        if one["measure"] == measure:
            rounds = told.setdefault(one["contender"], {}).setdefault(one["case"], [])
            rounds.append(one.get("figures") or {"failed": one["failed"]})
    return told
