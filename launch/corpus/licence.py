"""The licence of a package, from its debian/copyright where that is machine-readable (format 1.0)."""

import re

# From the least to the most demanding; a choice ("or") counts as the least, a sum ("and") as the most.
CLASSES = ("public-domain", "permissive", "weak-copyleft", "copyleft", "other")

_PATTERNS = (
    ("public-domain", r"public.?domain|^pd$|cc0|unlicense"),
    ("weak-copyleft", r"lgpl|lesser|mpl|mozilla|eupl|cddl|gcc runtime library exception|linux-syscall-note"),
    ("copyleft", r"gpl|gfdl|fdl|cc-by-sa|open publication"),
    ("permissive", r"mit|expat|bsd|isc|apache|artistic|zlib|psf|python|cc-by|boost|bsl|x11|ofl"),
)


def classify(name: str) -> str:
    """The class of a licence's short name; alternatives and sums are resolved as said above."""
    name = name.lower()
    options = re.split(r"\s*,?\s+or\s+|\s*\|\s*", name)
    return CLASSES[min(_rank_of_sum(option) for option in options)]


def _rank_of_sum(name: str) -> int:
    return max(_rank(part) for part in re.split(r"\s*,?\s+and\s+|\s*,\s*", name) if part)


def _rank(name: str) -> int:
    for cls, pattern in _PATTERNS:
        if re.search(pattern, name):
            return CLASSES.index(cls)
    return CLASSES.index("other")


def from_copyright_file(text: str) -> tuple[str, list[str]] | None:
    """(short name of the licence of 'Files: *', all short names), or None if the file is free text."""
    if not re.match(r"\s*Format(-Specification)?:", text):
        return None
    stanzas = [_fields(block) for block in re.split(r"\n[ \t]*\n", text)]
    names = []
    main = None
    for stanza in stanzas:
        name = stanza.get("license", "").split("\n")[0].strip()
        if not name:
            continue
        if name not in names:
            names.append(name)
        if main is None and stanza.get("files", "").split() == ["*"]:
            main = name
    if main is None:
        main = names[0] if names else None
    return (main, sorted(names)) if main else None


def _fields(block: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    key = ""
    for line in block.split("\n"):
        start = re.match(r"([A-Za-z-]+):[ \t]*(.*)", line)
        if start:
            key = start.group(1).lower()
            fields[key] = start.group(2)
        elif key and line[:1] in " \t":
            fields[key] += "\n" + line.strip()
    return fields
