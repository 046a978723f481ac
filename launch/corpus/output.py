"""Writing the corpus: three compressed files and the manifest, which appears last and says what they are."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

from debs import file_sha256
from recipe import DOMAINS

FORMAT = "weft sample corpus"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"


class CannotWrite(Exception):
    pass


def data_name(domain: str) -> str:
    return f"{domain}.jsonl.zst"


def read_manifest(folder: Path) -> dict | None:
    """The manifest in the folder; None if there is none, or none of this program's."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return None
    return manifest


def is_whole(folder: Path, manifest: dict, recipe: str) -> bool:
    """Whether the folder holds what the manifest says, and the manifest is of this recipe."""
    if manifest.get("format_version") != FORMAT_VERSION or manifest.get("recipe") != recipe:
        return False
    for domain in DOMAINS:
        entry = manifest["domains"].get(domain)
        file = folder / data_name(domain)
        if not entry or not file.is_file() or file_sha256(file) != entry["sha256"]:
            return False
    return True


def foreign_files(folder: Path) -> list[str]:
    """Names that would be written but are there already."""
    return [name for name in (*map(data_name, DOMAINS), MANIFEST) if (folder / name).exists()]


def compress(folder: Path, domain: str, lines: list[bytes]) -> tuple[Path, dict]:
    """Writes a domain under a temporary name; gives that and the manifest's entry."""
    temporary = folder / f".{data_name(domain)}.{os.getpid()}"
    # One thread: with more, zstd's output depends on their number.
    with subprocess.Popen(
        ["zstd", "-q", "-f", "-8", "-T1", "--check", "-o", str(temporary)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as zstd:
        try:
            for line in lines:
                zstd.stdin.write(line)
            zstd.stdin.close()
        except BrokenPipeError:
            pass  # zstd says why, below
        complaint = zstd.stderr.read().decode("utf-8", "replace").strip()
    if zstd.returncode != 0:
        temporary.unlink(missing_ok=True)
        raise CannotWrite(f"zstd cannot write {temporary}: {complaint}")
    _sync(temporary)
    entry = {
        "file": data_name(domain),
        "documents": len(lines),
        "bytes": temporary.stat().st_size,
        "sha256": file_sha256(temporary),
        "content_bytes": sum(map(len, lines)),
        "content_sha256": hashlib.sha256(b"".join(lines)).hexdigest(),
    }
    return temporary, entry


def publish(folder: Path, temporaries: dict[str, Path], manifest: dict) -> None:
    """Puts everything in place; the old manifest goes first: it never stands beside other files."""
    text = json.dumps(manifest, indent=1, ensure_ascii=False, sort_keys=False) + "\n"
    manifest_file = folder / f".{MANIFEST}.{os.getpid()}"
    try:
        manifest_file.write_text(text, "utf-8")
        _sync(manifest_file)
        (folder / MANIFEST).unlink(missing_ok=True)
        for domain, temporary in temporaries.items():
            os.replace(temporary, folder / data_name(domain))
        _sync(folder)
        os.replace(manifest_file, folder / MANIFEST)
        _sync(folder)
    finally:
        manifest_file.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
