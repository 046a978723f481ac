"""What the sample corpus is made of: packages of Debian 12 (main), how each is read, and how much is taken.

Three domains as in the Jamba paper's evaluation (Books, web, Code). A package's quota is in bytes of text;
None takes all of it. Where a quota cuts, documents are taken in the order of a hash of their source, so that
the cut is a sample and not the beginning of the alphabet.

The licence stated here stands when the package's copyright file is not in the machine-readable format, or is
not in the package itself, or speaks of the packaging only (the novels are out of copyright, whatever the
licence of the R package around them).
"""

from dataclasses import dataclass

MB = 1_000_000


@dataclass(frozen=True)
class Source:
    package: str
    domain: str
    kind: str  # a reader of readers.py
    path: str  # regular expression that a file's whole path must match
    quota: int | None = None
    exclude: str | None = None  # regular expression; a path in which it is found is left out
    licence: str | None = None  # stated licence: see above
    stated_wins: bool = False  # the copyright file speaks of the packaging, the stated licence of the text


HTML_INDEX_PAGES = r"/(genindex|search|py-modindex|toc|doc_.*list|keyword_index|sitemap)[^/]*\.html?$"

FULL = (
    # Books
    Source(
        "r-cran-janeaustenr",
        "books",
        "rdata",
        r"usr/lib/R/site-library/janeaustenr/data/Rdata\.rdb",
        licence="public-domain",
        stated_wins=True,
    ),
    Source(
        "r-cran-tokenizers",
        "books",
        "rdata",
        r"usr/lib/R/site-library/tokenizers/data/Rdata\.rdb",
        licence="public-domain",
        stated_wins=True,
    ),
    Source(
        "sword-text-kjv",
        "books",
        "sword",
        r"usr/share/sword/modules/texts/.*\.[bc]zs",
        licence="public-domain",
    ),
    Source(
        "sword-comm-tdavid",
        "books",
        "sword",
        r"usr/share/sword/modules/.*\.[bc]zs",
        2 * MB,
        licence="public-domain",
    ),
    Source(
        "sword-comm-mhcc",
        "books",
        "sword",
        r"usr/share/sword/modules/.*\.[bc]zs",
        1_500_000,
        licence="public-domain",
    ),
    Source(
        "anarchism",
        "books",
        "html",
        r"usr/share/doc/anarchism/html/(sec|append|intro|vol|10years).*\.html",
        3 * MB,
        exclude=r"/sec.con\.html",
    ),
    Source("cfi-en", "books", "html", r"usr/share/doc/cfi-en/html/ch.*\.htm", licence="public-domain"),
    Source("dict-jargon", "books", "dict", r"usr/share/dictd/.*\.index", licence="public-domain"),
    Source("dict-foldoc", "books", "dict", r"usr/share/dictd/.*\.index", 1_500_000, licence="GFDL-1.1+"),
    Source("dict-gcide", "books", "dict", r"usr/share/dictd/.*\.index", 2 * MB, licence="GPL-2+"),
    # web
    Source(
        "linux-doc-6.1",
        "web",
        "html",
        r"usr/share/doc/linux-doc-6\.1/html/(admin-guide|process|core-api|filesystems|mm|networking"
        r"|driver-api|scheduler|RCU|locking|trace|dev-tools|maintainer|security|timers|virt|power|block|bpf)"
        r"/.*\.html",
        5 * MB,
        exclude=HTML_INDEX_PAGES + r"|/media/",
        licence="GPL-2",
    ),
    Source("debian-handbook", "web", "html", r"usr/share/doc/debian-handbook/html/en-US/.*\.html"),
    Source(
        "debian-reference-en",
        "web",
        "html",
        r"usr/share/debian-reference/.*\.en\.html",
        exclude=HTML_INDEX_PAGES,
    ),
    Source(
        "developers-reference",
        "web",
        "html",
        r"usr/share/developers-reference/.*\.html",
        exclude=HTML_INDEX_PAGES,
        licence="GPL-2+",
    ),
    Source(
        "debian-policy",
        "web",
        "html",
        r"usr/share/doc/debian-policy/policy\.html/.*\.html",
        exclude=HTML_INDEX_PAGES,
        licence="GPL-2+",
    ),
    Source(
        "sqlite3-doc",
        "web",
        "html",
        r"usr/share/doc/sqlite3/.*\.html",
        4 * MB,
        exclude=HTML_INDEX_PAGES + r"|/(hlr|releaselog|syntax/|capi3ref)",
        licence="public-domain",
    ),
    Source(
        "git-doc",
        "web",
        "html",
        r"usr/share/doc/git-doc/.*\.html",
        2_500_000,
        exclude=HTML_INDEX_PAGES,
        licence="GPL-2",
    ),
    Source("mh-book", "web", "html", r"usr/share/doc/mh-book/html/.*\.html", licence="GPL-2+"),
    Source("perl-doc", "web", "pod", r"usr/share/perl/.*\.pod", 3 * MB, licence="Artistic or GPL-1+"),
    # code
    Source("linux-libc-dev", "code", "code", r"usr/include/.*\.h", 3 * MB, licence="GPL-2"),
    Source("libc6-dev", "code", "code", r"usr/include/.*\.h", 2 * MB, licence="LGPL-2.1+"),
    Source("libstb-dev", "code", "code", r"usr/include/stb/.*\.[ch]", licence="MIT or public-domain"),
    Source("libeigen3-dev", "code", "code", r"usr/include/eigen3/.*/src/.*\.h", 2 * MB, licence="MPL-2.0"),
    Source(
        "libstdc++-12-dev",
        "code",
        "code",
        r"usr/include/c\+\+/12/.*\.(h|hpp|tcc)",
        2 * MB,
        licence="GPL-3+ with GCC Runtime Library Exception",
    ),
    Source(
        "libpython3.11-stdlib",
        "code",
        "code",
        r"usr/lib/python3\.11/.*\.py",
        5 * MB,
        exclude=r"/pydoc_data/",
        licence="PSF-2",
    ),
    Source(
        "perl-modules-5.36",
        "code",
        "code",
        r"usr/share/perl/.*\.p[lm]",
        3 * MB,
        exclude=r"/unicore/|/perl5db",
        licence="Artistic or GPL-1+",
    ),
)

SMALL = (
    Source(
        "r-cran-janeaustenr",
        "books",
        "rdata",
        r"usr/lib/R/site-library/janeaustenr/data/Rdata\.rdb",
        1 * MB,
        licence="public-domain",
        stated_wins=True,
    ),
    Source(
        "debian-reference-en",
        "web",
        "html",
        r"usr/share/debian-reference/.*\.en\.html",
        700_000,
        exclude=HTML_INDEX_PAGES,
    ),
    Source(
        "developers-reference",
        "web",
        "html",
        r"usr/share/developers-reference/.*\.html",
        300_000,
        exclude=HTML_INDEX_PAGES,
        licence="GPL-2+",
    ),
    Source(
        "libstb-dev", "code", "code", r"usr/include/stb/.*\.[ch]", 400_000, licence="MIT or public-domain"
    ),
    Source(
        "libpython3.11-stdlib",
        "code",
        "code",
        r"usr/lib/python3\.11/.*\.py",
        600_000,
        exclude=r"/pydoc_data/",
        licence="PSF-2",
    ),
)

DOMAINS = ("books", "web", "code")
SHORTEST_DOCUMENT = 200  # characters; shorter ones are headings and redirections
