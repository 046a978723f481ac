"""Near duplicates: which documents `weft data build` and datatrove keep, and why where they differ.

weft's result is also computed here, from its description in data/dedup/near.h and data/text/: datatrove's
simplified text, words of UAX #29 (the regex package), datatrove's permutations in numpy. What weft did otherwise
is unexplained."""

from dataclasses import dataclass, field

import numpy as np
import regex
import xxhash

from datatrove.utils.text import simplify_text
from datatrove.utils.word_tokenizers import load_word_tokenizer

import pipeline_trove as trove

THRESHOLD = 0.75
GROUP_FULL, GROUP_STARS = 32, 8  # of data/dedup/near.h
# ICU cuts these by dictionaries that Python has not: such documents are left out.
DICTIONARY = regex.compile(r"[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Line_Break=SA}]")
BOUNDARY = regex.compile(r"(?wV1)\b")
PARTED = ("cannot", "dont", "gonna", "youre", "theyre", "wouldve", "im", "5km")  # by spaCy

REASONS = {
    "a": "not verified in datatrove: below the threshold with every kept document of its cluster",
    "b": "words differ (UAX #29, spaCy), and so do the shingles",
    "c": "another copy of the same cluster is kept",
    "d": "chance of LSH (32-bit and 64-bit minima choose different shingles)",
    "g": f"not paired: of more than {GROUP_FULL} that share a band weft pairs each with some",
    "e": "unexplained",
}


# ---- planted documents ----
def jaccard(a, b):
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / max(1, len(a) + len(b) - both)


def replaced(text, similarity, rng, vocabulary):
    """The text with as many words replaced as would leave this similarity, were no two of them close."""
    words = text.split(" ")
    shingles = max(1, len(words) - trove.SHINGLE + 1)
    count = max(1, round(shingles * (1 - similarity) / (trove.SHINGLE * (1 + similarity))))
    for i in rng.sample(range(len(words)), min(count, len(words))):
        words[i] = rng.choice(vocabulary)
    return " ".join(words)


def trove_shingles(text):
    words = load_word_tokenizer("en").word_tokenize(simplify_text(text))
    return hashed(words)


def near_copy(text, shingles, kind, rng):
    """A copy of a similarity, by datatrove's own shingles, of .5 to .98: (text, shingles, similarity), or None."""
    low, high, vocabulary = kind
    for _ in range(20):
        copy = replaced(text, rng.uniform(low, high), rng, vocabulary)
        found = trove_shingles(copy)
        similarity = jaccard(shingles, found)
        if 0.5 <= similarity <= 0.98:
            return copy, found, similarity
    return None


def plant(texts, count, rng):
    """Near copies of some texts, and their similarities: single ones over the whole range; some about the threshold
    with words that spaCy parts and UAX #29 does not; chains, in which each is like the one before and less like the
    first; and copies of one document, too many for all their pairs."""
    originals = [i for i, t in enumerate(texts) if 150 <= t.count(" ") <= 2500]
    words = sorted({w for i in originals[:50] for w in texts[i].split() if w.isalpha()})
    single, parted, chain = (0.5, 0.98, words), (0.7, 0.85, PARTED), (0.78, 0.95, words)
    planted, similarities = [], []
    while len(planted) < count:
        text = texts[rng.choice(originals)]
        shingles = trove_shingles(text)
        kind, length = rng.choice(((single, 1), (single, 1), (single, 1), (parted, 1), (chain, 3)))
        for _ in range(length):
            copy = near_copy(text, shingles, kind, rng)
            if not copy:
                break
            text, shingles, similarity = copy
            planted.append(text)
            similarities.append(similarity)
    base = texts[rng.choice(originals)]
    planted += [replaced(base, rng.uniform(0.8, 0.95), rng, words) for _ in range(GROUP_FULL + GROUP_STARS)]
    return planted, similarities


def documents(texts, count, planted, rng):
    """`count` of the texts, spread evenly, with planted ones among them in random order; how many those are, and how
    similar to what they are copies of."""
    texts = [t for t in texts if not DICTIONARY.search(t)]
    texts = [texts[i * len(texts) // count] for i in range(min(count, len(texts)))]
    copies, similarities = plant(texts, planted, rng)
    everything = texts + copies
    rng.shuffle(everything)
    return everything, len(copies), similarities


# ---- weft's rules ----
def hashed(words):
    n = trove.SHINGLE
    hashes = [xxhash.xxh64_intdigest(" ".join(words[i : i + n])) for i in range(len(words) - n + 1)]
    return np.unique(np.array(hashes, dtype=np.uint64))


def uax29(text):
    """Words of the compared form: of ASCII it holds letters and zeros only; a run of one symbol is one word."""
    words = []
    for token in text.split(" "):
        if token.isascii():
            words += [token] if token else []
            continue
        first = len(words)
        for part in BOUNDARY.split(token):
            part = regex.sub(r"^[\p{White_Space}\p{Cc}\p{Cf}]+", "", part)
            symbol = len(part) == 1 and not regex.match(r"[\p{Alphabetic}\p{Nd}]", part)
            if symbol and len(words) > first and words[-1].strip(part) == "":
                words[-1] += part
            elif part:
                words.append(part)
    return words


class Signer:
    """Minima of datatrove's permutations, as they are (64 bits) and of their low 32 bits, which weft takes."""

    def __init__(self, folder):
        signing = trove.MinhashDedupSignature(str(folder), config=trove.CONFIG)
        self.a, self.b = signing.parameters
        self.prime = np.uint64((1 << 61) - 1)

    def bands(self, shingles):
        """By width the keys of a document's bands."""
        if len(shingles) == 0:
            return {64: [], 32: []}
        wide = np.full(self.a.shape[1], self.prime, np.uint64)
        low = np.full(self.a.shape[1], 0xFFFFFFFF, np.uint64)
        for at in range(0, len(shingles), 512):  # stays in the cache
            hashes = (shingles[at : at + 512, None] * self.a + self.b) % self.prime
            wide = np.minimum(wide, hashes.min(axis=0))
            low = np.minimum(low, (hashes & np.uint64(0xFFFFFFFF)).min(axis=0))
        return {64: [row.tobytes() for row in wide.reshape(trove.BANDS, -1)],
                32: [row.tobytes() for row in low.reshape(trove.BANDS, -1)]}


def candidates(bands):
    """Pairs (smaller, larger) that share a band; of a large group not all."""
    groups, found = {}, set()
    for document, keys in enumerate(bands):
        for band, key in enumerate(keys):
            groups.setdefault((band, key), []).append(document)
    for group in groups.values():
        for i, v in enumerate(group):
            earlier = range(i)
            if len(group) > GROUP_FULL:
                earlier = {*range(min(i, GROUP_STARS)), *range(max(0, i - GROUP_STARS), i)}
            found.update((group[j], v) for j in earlier)
    return found


def expected(shingles, pairs):
    """What weft is to drop: {document: (kept, similarity)}. A document stays if no kept one before it is like it."""
    like = {}
    for u, v in pairs:
        similarity = jaccard(shingles[u], shingles[v])
        if similarity >= THRESHOLD:
            like.setdefault(v, {})[u] = similarity
    dropped = {}
    for v in sorted(like):
        kept = [u for u in like[v] if u not in dropped]
        if kept:
            dropped[v] = (min(kept), like[v][min(kept)])
    return dropped


# ---- why they differ ----
def share(a, b):
    return any(x == y for x, y in zip(a, b))


@dataclass
class Comparison:
    """All of one run: shingles and bands by document, with datatrove's words and with UAX #29's."""

    texts: list
    trove_shingles: list
    trove_dropped: set
    trove_cluster: dict
    weft_dropped: dict  # document: (kept, similarity)
    signer: Signer
    weft_shingles: list = field(default_factory=list)
    trove_bands: list = field(default_factory=list)
    weft_bands: list = field(default_factory=list)

    def __post_init__(self):
        self.members, self.candidates, self.expected = {}, set(), {}
        for text, theirs in zip(self.texts, self.trove_shingles):
            ours = hashed(uax29(simplify_text(text)))
            self.weft_shingles.append(ours)
            self.trove_bands.append(self.signer.bands(theirs))
            self.weft_bands.append(self.trove_bands[-1] if np.array_equal(ours, theirs) else self.signer.bands(ours))
        for document, cluster in self.trove_cluster.items():
            self.members.setdefault(cluster, []).append(document)
        self.candidates = candidates([b[32] for b in self.weft_bands])
        self.expected = expected(self.weft_shingles, self.candidates)

    def theirs(self, x, y):
        return jaccard(self.trove_shingles[x], self.trove_shingles[y])

    def ours(self, x, y):
        return jaccard(self.weft_shingles[x], self.weft_shingles[y])

    def same_clusters(self):
        """Whether the bands computed here explain datatrove's clusters: all of one band in one, and no others."""
        groups, found = {}, {}
        for document, bands in enumerate(self.trove_bands):
            for band, key in enumerate(bands[64]):
                groups.setdefault((band, key), []).append(document)
        for first, *others in groups.values():
            for other in others:
                a, b = found.setdefault(first, {first}), found.setdefault(other, {other})
                if a is not b:
                    a |= b
                    found.update((document, a) for document in b)
        theirs = {frozenset(members) for members in self.members.values()}
        return theirs == {frozenset(members) for members in found.values()}

    def chained(self, x):
        """Whether datatrove dropped x for a copy that it shares no band with."""
        root = next(d for d in self.cluster_of(x) if d not in self.trove_dropped)
        return not share(self.trove_bands[x][64], self.trove_bands[root][64])

    def same_words(self, *documents):
        return all(np.array_equal(self.trove_shingles[d], self.weft_shingles[d]) for d in documents)

    def cluster_of(self, document):
        return self.members.get(self.trove_cluster.get(document), [document])

    def as_expected(self, x, weft_dropped):
        """Whether weft did with x what its rules say: to the document and to the similarity."""
        if x not in weft_dropped or x not in self.expected:
            return x not in weft_dropped and x not in self.expected
        (kept, similarity), (right, exact) = weft_dropped[x], self.expected[x]
        return kept == right and abs(similarity - exact) < 1e-6

    def why_not_paired(self, x, y):
        """Why weft did not drop one of two documents for the other, though datatrove's shingles of them are similar."""
        pair = (min(x, y), max(x, y))
        if self.ours(x, y) < THRESHOLD:
            return None if self.same_words(x, y) else "b"
        if pair in self.candidates:
            return None
        if share(self.weft_bands[x][32], self.weft_bands[y][32]):
            return "g"
        if share(self.trove_bands[x][32], self.trove_bands[y][32]) and not self.same_words(x, y):
            return "b"
        return "d"

    def only_trove_dropped(self, x, weft_dropped):
        cluster = self.cluster_of(x)
        root = next(d for d in cluster if d not in self.trove_dropped)
        stayed = [k for k in cluster if k != x and k not in weft_dropped]
        like = [k for k in {root, *stayed} if self.theirs(x, k) >= THRESHOLD]
        if not like:
            return "a", root
        reasons = {k: self.why_not_paired(x, k) for k in like if k in stayed}
        if None in reasons.values():
            return "e", next(k for k, reason in reasons.items() if reason is None)
        if root in weft_dropped and (weft_dropped[root][0] == x or not reasons):
            return "c", root
        if not reasons:
            return "e", root
        return min((reason, k) for k, reason in reasons.items())

    def only_weft_dropped(self, x, weft_dropped):
        kept, similarity = weft_dropped[x]
        if similarity < THRESHOLD:
            return "e", kept
        if kept in self.cluster_of(x):
            return "c", kept
        if share(self.trove_bands[x][64], self.trove_bands[kept][64]):
            return "e", kept
        if share(self.weft_bands[x][64], self.weft_bands[kept][64]) and not self.same_words(x, kept):
            return "b", kept
        return "d", kept

    def explain(self, x, weft_dropped):
        """(document, who dropped it, reason, the other one) if its fate differs or is not as weft's rules say."""
        by_weft, by_trove = x in weft_dropped, x in self.trove_dropped
        if not self.as_expected(x, weft_dropped):
            who = "both" if by_weft and by_trove else "weft" if by_weft else "datatrove" if by_trove else "neither"
            return x, who, "e", weft_dropped.get(x, self.expected.get(x))[0]
        if by_trove and not by_weft:
            return x, "datatrove", *self.only_trove_dropped(x, weft_dropped)
        if by_weft and not by_trove:
            return x, "weft", *self.only_weft_dropped(x, weft_dropped)
        return None

    def differences(self):
        return [row for x in range(len(self.texts)) if (row := self.explain(x, self.weft_dropped))]

    def falsified(self, count, rng):
        """How many of `count` documents whose fate is turned round are unexplained: all of them should be."""
        found = 0
        for x in rng.sample(range(len(self.texts)), count):
            wrong = dict(self.weft_dropped)
            if not wrong.pop(x, None):
                wrong[x] = (x - 1 if x else 1, 0.8)
            row = self.explain(x, wrong)
            found += row is not None and row[2] == "e"
        return found


# ---- tables ----
def print_fates(c):
    both = sum(x in c.trove_dropped for x in c.weft_dropped)
    print(f"\n| of {len(c.texts)} documents | datatrove drops | datatrove keeps |\n|---|--:|--:|")
    print(f"| weft drops | {both} | {len(c.weft_dropped) - both} |")
    either = len(c.trove_dropped.union(c.weft_dropped))
    print(f"| weft keeps | {len(c.trove_dropped) - both} | {len(c.texts) - either} |")


def example(c, x, other):
    start = " ".join(c.texts[x].split())[:40]
    return (f"{x} and {other}: similarity {c.theirs(x, other):.3f} with spaCy's words, {c.ours(x, other):.3f} with "
            f"UAX #29's; \"{start}\"".replace("|", "\\|"))


def print_reasons(c, rows):
    print("\n| why their fates differ | only datatrove drops | only weft drops | example |\n|---|--:|--:|---|")
    for key, text in REASONS.items():
        of = [r for r in rows if r[2] == key]
        by = [sum(r[1] == who for r in of) for who in ("datatrove", "weft")]
        shown = example(c, of[0][0], of[0][3]) if of else ""
        same = len(of) - sum(by)
        rest = f"; {same} with the same fate" if same else ""
        print(f"| ({key}) {text} | {by[0]} | {by[1]}{rest} | {shown} |")
    unverified = [r[0] for r in rows if r[2] == "a"]
    chains = sum(c.chained(x) for x in unverified)
    print(f"\nOf (a), {chains} share no band with the copy that is kept, only with others of the cluster (a chain); "
          f"{len(unverified) - chains} share one.")


def print_reverse(c, rows, most=8):
    pairs = [(x, other, reason) for x, who, reason, other in rows if who == "weft"]
    print(f"\n{len(pairs)} documents that weft dropped and datatrove kept" + (":" if pairs else ""))
    if pairs:
        print("\n| dropped | for | similarity (verified) | reason |\n|--:|--:|--:|---|")
    for x, other, reason in pairs[:most]:
        print(f"| {x} | {other} | {c.weft_dropped[x][1]:.3f} | ({reason}) |")


def print_justified(c):
    """Every dropped document by its similarity to the copy that the same program kept."""

    def worst(dropped, kept_for):
        found = [max((c.theirs(x, k) for k in kept_for(x)), default=0) for x in dropped]
        return sum(s < THRESHOLD for s in found), sum(s < 0.5 for s in found), min(found, default=1)

    theirs = worst(c.trove_dropped, lambda x: [k for k in c.cluster_of(x) if k not in c.trove_dropped])
    ours = worst(c.weft_dropped, lambda x: [c.weft_dropped[x][0]])
    print("\n| dropped documents, by their similarity to the copy that is kept | datatrove | weft |\n|---|--:|--:|")
    print(f"| dropped | {len(c.trove_dropped)} | {len(c.weft_dropped)} |")
    for name, i in ((f"below {THRESHOLD} (spaCy's words)", 0), ("below 0.5", 1)):
        print(f"| {name} | {theirs[i]} | {ours[i]} |")
    print(f"| least similarity | {theirs[2]:.3f} | {ours[2]:.3f} |")
