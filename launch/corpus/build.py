"""One package of the recipe to documents. Runs in a process of its own: packages are read side by side."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import licence
from debs import read_deb
from readers import COMPANIONS, READERS, tidy
from recipe import SHORTEST_DOCUMENT, Source


@dataclass(frozen=True)
class Document:
    source: str  # package/path, and #unit where a file has several
    path: str
    text: str


@dataclass(frozen=True)
class Built:
    documents: list[Document]  # in the order of their sources
    file_sha256: dict[str, str]  # of the files that documents come from
    licence_name: str
    licence_basis: str  # "copyright file" or "stated"
    licences_in_package: list[str]


def build(source: Source, deb: Path) -> Built:
    pattern = re.compile(source.path + r"(?:\.gz)?")
    exclude = re.compile(source.exclude) if source.exclude else None
    companion = COMPANIONS.get(source.kind)
    copyright_path = f"usr/share/doc/{source.package}/copyright"

    def is_input(path: str) -> bool:
        return bool(pattern.fullmatch(path)) and not (exclude and exclude.search(path))

    def is_wanted(path: str) -> bool:
        if is_input(path) or path == copyright_path:
            return True
        return (
            bool(companion)
            and path.endswith(companion[1])
            and is_input(path.removesuffix(companion[1]) + companion[0])
        )

    files = read_deb(deb, is_wanted)
    reader = READERS[source.kind]
    units = []
    for path in sorted(path for path in files if is_input(path)):
        for name, payload in reader.units(path, files):
            label = f"{source.package}/{path}" + (f"#{name}" if name else "")
            units.append((hashlib.sha256(label.encode()).digest(), label, path, payload))
    units.sort()

    documents = []
    taken = 0
    for _, label, path, payload in units:
        text = reader.text(payload)
        text = tidy(text) if text else ""
        if len(text) < SHORTEST_DOCUMENT:
            continue
        size = len(text.encode())
        if source.quota is not None and taken + size > source.quota:
            if taken > 0.98 * source.quota:
                break
            continue  # a long document that does not fit; shorter ones may
        taken += size
        documents.append(Document(label, path, text))
    documents.sort(key=lambda document: document.source)
    hashes = {path: hashlib.sha256(files[path]).hexdigest() for path in sorted({d.path for d in documents})}
    return Built(documents, hashes, *_licence(source, files.get(copyright_path)))


def _licence(source: Source, copyright_file: bytes | None) -> tuple[str, str, list[str]]:
    parsed = None
    if copyright_file:
        parsed = licence.from_copyright_file(copyright_file.decode("utf-8", "replace"))
    if parsed and not (source.stated_wins and source.licence):
        return parsed[0], "copyright file", parsed[1]
    if not source.licence:
        raise ValueError(f"{source.package}: neither its copyright file nor the recipe gives a licence")
    return source.licence, "stated", parsed[1] if parsed else []
