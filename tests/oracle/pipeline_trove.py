"""datatrove 0.6's steps on one core, in this process: what pipeline.py compares with.

The steps are run one by one and documents are handed on in memory, so that what is timed is their work: no
executor, no start of processes, no loading of spaCy or of the tokenizer, no text written between the stages and
read again."""

import time
from pathlib import Path

import numpy as np
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import (C4QualityFilter, FineWebQualityFilter, GopherQualityFilter,
                                        GopherRepetitionFilter)
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig

BANDS, ROWS, SHINGLE, SEED = 14, 8, 5, 1
CONFIG = MinhashConfig(n_grams=SHINGLE, num_buckets=BANDS, hashes_per_bucket=ROWS, seed=SEED,
                       hash_config=HashConfig(precision=64, hash_fc="xxhash"))


class Signature(MinhashDedupSignature):
    """Notes the shingles of every document, in their order."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.shingles = []

    def get_shingles(self, text):
        found = super().get_shingles(text)
        self.shingles.append(np.unique(found))
        return found


class Clock:
    """Seconds of this process and of the wall, by step."""

    def __init__(self):
        self.steps = {}

    def time(self, name, work):
        cpu, wall = time.process_time(), time.monotonic()
        result = work()
        before = self.steps.get(name, (0, 0))
        self.steps[name] = (before[0] + time.process_time() - cpu, before[1] + time.monotonic() - wall)
        return result

    def total(self, *names):
        return tuple(sum(self.steps[n][i] for n in names) for i in (0, 1))


def read(path, pattern="*.jsonl*"):
    return list(JsonlReader(str(path), glob_pattern=pattern).run(rank=0, world_size=1))


def chained(steps, documents):
    """One document through all steps before the next one, as in datatrove: they share its words (a cache)."""
    data = iter(documents)
    for step in steps:
        data = step.run(data, 0, 1)
    return list(data)


def write(documents, path):
    for _ in JsonlWriter(str(path)).run(iter(documents), 0, 1):
        pass


def filters():
    return [GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(filter_no_terminal_punct=False),
            FineWebQualityFilter()]


def sign(documents, work, step=MinhashDedupSignature):
    signing = step(str(work / "signatures"), config=CONFIG)
    signing.run(iter(documents), 0, 1)
    return signing


def cluster(work):
    for bucket in range(BANDS):
        MinhashDedupBuckets(str(work / "signatures"), str(work / "pairs"), config=CONFIG).run(None, bucket, BANDS)
    MinhashDedupCluster(str(work / "pairs"), str(work / "removed"), config=CONFIG, save_cluster_id=True).run(None, 0, 1)


def keep(documents, work):
    return list(MinhashDedupFilter(str(work / "removed")).run(iter(documents), 0, 1))


def removed(work):
    path = work / "removed" / "000000.remove"
    return set(np.fromfile(path, dtype="<u4").tolist()) if path.exists() else set()


def clusters(work):
    """The number of each clustered document's cluster."""
    path = work / "removed" / "000000.clusters"
    return dict(np.fromfile(path, dtype="<u4").reshape(-1, 2).tolist()) if path.exists() else {}


def run(texts, work, tokenizer):
    """All steps on the files of `texts`; returns the clock, and by step the texts' bytes and the documents' ids."""
    clock, seen = Clock(), {}

    def note(name, documents):
        seen[name] = (sum(len(d.text.encode()) for d in documents), [d.id for d in documents])
        return documents

    documents = note("read", clock.time("read", lambda: read(texts, "*.jsonl")))
    documents = note("filters", clock.time("filters", lambda: chained(filters(), documents)))
    clock.time("sign", lambda: sign(documents, work))
    clock.time("cluster", lambda: cluster(work))
    kept = note("near", clock.time("cluster", lambda: keep(documents, work)))
    writer = DocumentTokenizer(str(work / "tokens"), str(Path(tokenizer) / "tokenizer.json"), eos_token="<|endoftext|>",
                               seed=1)
    writer.tokenizer  # loads it
    clock.time("tokenise", lambda: writer.run(iter(kept), 0, 1))
    # What stands between the stages in datatrove's examples: texts are written after the filters and again after the
    # deduplication, and read to be signed, to be dropped and to be tokenised.
    clock.time("between", lambda: write(documents, work / "filtered"))
    for _ in range(2):
        clock.time("between", lambda: read(work / "filtered"))
    clock.time("between", lambda: write(kept, work / "deduplicated"))
    clock.time("between", lambda: read(work / "deduplicated"))
    return clock, seen
