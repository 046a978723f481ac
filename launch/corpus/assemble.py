"""From the packages' documents to the lines of each domain, in their order, and the manifest's lists."""

import hashlib
import json

import licence
from build import Built
from debs import Package
from recipe import DOMAINS, Source


def assemble(
    sources: tuple[Source, ...], packages: dict[str, Package], built: dict[str, Built]
) -> tuple[dict[str, list[bytes]], list[dict], list[dict]]:
    """Lines of each domain, entries of packages, entries of files.

    Of equal texts the first is kept, in the order of the recipe and then of the sources; a domain's order is
    that of a hash of the source.
    """
    seen = set()
    keyed = {domain: [] for domain in DOMAINS}
    package_entries = []
    file_entries = []
    for source in sources:
        package = packages[source.package]
        result = built[source.package]
        origin = f"Debian, {package.filename}"
        cls = licence.classify(result.licence_name)
        per_file: dict[str, list[int]] = {}
        for document in result.documents:
            text_hash = hashlib.sha256(document.text.encode()).digest()
            if text_hash in seen:
                continue
            seen.add(text_hash)
            line = (
                json.dumps(
                    {"text": document.text, "domain": source.domain, "source": document.source},
                    ensure_ascii=False,
                    separators=(",", ":"),
                ).encode()
                + b"\n"
            )
            order = hashlib.sha256(b"weft sample corpus\0" + document.source.encode()).digest()
            keyed[source.domain].append((order, line))
            per_file.setdefault(document.path, []).append(len(document.text.encode()))
        package_entries.append(
            {
                "package": package.name,
                "version": package.version,
                "architecture": package.architecture,
                "source_package": package.source,
                "homepage": package.homepage,
                "origin": origin,
                "deb_sha256": package.sha256,
                "domain": source.domain,
                "licence": result.licence_name,
                "licence_class": cls,
                "licence_basis": result.licence_basis,
                "licences_in_package": result.licences_in_package,
                "documents": sum(map(len, per_file.values())),
                "text_bytes": sum(map(sum, per_file.values())),
            }
        )
        for path, sizes in sorted(per_file.items()):
            file_entries.append(
                {
                    "package": package.name,
                    "version": package.version,
                    "path": path,
                    "origin": origin,
                    "licence": result.licence_name,
                    "licence_class": cls,
                    "domain": source.domain,
                    "documents": len(sizes),
                    "bytes": sum(sizes),
                    "sha256": result.file_sha256[path],
                }
            )
    lines = {domain: [line for _, line in sorted(pairs)] for domain, pairs in keyed.items()}
    return lines, package_entries, file_entries
