# Files that end in .synthetic, as sources of `weft tokenizer train` and `weft data build`: the same bytes on any number of
# ranks and threads, killed and begun again or not.
source "$CLI_DIR/lib.sh"
source "$CLI_DIR/pipeline_lib.sh"
same() { diff -r --exclude=report.html --exclude=recipe.yaml good/out "$1/out"; }

# The examples are read to their end, and are enough for a tokenizer.
examples=("$SRC"/configs/data/synthetic/*.synthetic)
check 'four examples' test ${#examples[@]} -eq 4
expect 0 'in 80000 documents' "$WEFT" tokenizer train --vocab 900 --sample-bytes 200000 -o tok "${examples[@]}"
expect 0 'in 80000 documents' "$WEFT" tokenizer train --vocab 900 --sample-bytes 200000 -o tok2 "${examples[@]}"
check 'the same tokenizer' cmp tok/tokenizer.model tok2/tokenizer.model

mkdir tasks
printf 'task: recall\ndocuments: 900\nseed: 1\n' >tasks/recall.synthetic
printf 'task: copy\ndocuments: 400\nwords: 8-20\n' >tasks/copy.synthetic
printf 'task: needle\ndocuments: 300\nsentences: 5-60\n' >tasks/needle.synthetic
printf 'task: labels\ndocuments: 500\nlabels: named\n' >tasks/labels.synthetic
printf 'task: recall\ndocuments: 950\nseed: 1\n' >again.synthetic
python3 -c '
import json
for i in range(300):
    print(json.dumps({"text": f"Text number {i} of a book that was written once.\n" * (1 + i % 7) + "x" * i}))' >books.jsonl
cat >mixed.yaml <<'END'
tokenizer: ../tok
out: out
heldout: 0.05
unit_kib: 32
memory_mib: 24
shard_tokens: 30000
seed: 3
sources:
  books:
    path: ../books.jsonl
  tasks:
    path: ../tasks
    format: synthetic
    domain: tasks
  again:
    path: ../again.synthetic
normalise: {}
exact: {}
near: {}
END
expect 0 'all              train' in_folder good build 1 mixed
expect 0 'sound' "$WEFT" data verify good/out
for run in 'ranks2 2' 'ranks3 3 --threads 2' 'threads 1 --threads 3'; do
    set -- $run
    expect 0 '' in_folder "$1" build "$2" mixed "${@:3}"
    check "the same bytes: $1" same "$1"
done

# Documents of a file are in several units of work, and in the shards with their numbers and their texts.
shards() {
    python3 - "$WEFT" <<'END'
import sys
from pipeline_corpus import *
found = kept(sys.argv[1], "good/out")
documents = {"recall": 900, "copy": 400, "needle": 300, "labels": 500}
for task, count in documents.items():
    file = f"../tasks/{task}.synthetic"
    texts = {place: d["text"] for (f, place), d in found.items() if f == file}
    report = next(f for f in json.load(open("good/out/report.json"))["files"] if f["file"] == file)
    assert report["documents"] == count, (task, report)
    near = sum(f == file for f, _ in dropped("good/out", "near")[0])
    assert len(texts) == count - near and set(texts) <= set(range(1, count + 1)), (task, len(texts), near)
    heads = {"recall": "pairs\n", "copy": "copy\n", "labels": "sort\n", "needle": "The "}
    assert all(t.startswith(heads[task]) for t in texts.values()), task
    if task == "recall":
        for t in texts.values():
            first, second = t.removeprefix("pairs\n").split("recall\n")
            assert sorted(first.split()) == sorted(second.split()) and len(first.split()) in range(8, 50, 2), t
assert sum(len(d["text"]) for (f, _), d in found.items() if "tasks" in f) > 4 * 32 * 1024
gone = dropped("good/out", "exact")[0]
assert {p for f, p in gone if f == "../again.synthetic"} == set(range(1, 901)), "the copies of another file's documents"
assert {f for f, _ in gone} == {"../again.synthetic"}
END
}
check 'the shards hold the documents' shards
shown() { # both copies are made again from their numbers
    (cd good && "$WEFT" data show out -n 1000 | grep exact | awk '{print $1}' | head -1 | xargs "$WEFT" data show out --bytes 5)
}
expect 0 'pairs ...' shown
check 'two texts of a cluster are shown' test "$(shown | grep -c '^pairs$\|^pairs')" -eq 2

# `loss: answers`: of 400 documents with three pairs of words that are one token each, three answers and the end count,
# otherwise all 23 tokens behind the first. A step that changes such a text is refused.
counted() { # of all documents, trained on or not
    "$WEFT" train "$SRC/configs/tiny-hybrid.yaml" run="$1-run" data.path="$1" data.packing=whole train.steps=1 model.vocab_size=329 >/dev/null 2>&1
    "$WEFT" eval "$1-run" --split train --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["all"]["tokens"])'
}
printf 'task: recall\ndocuments: 400\npairs: 3\nvocabulary: 3\n' >few.synthetic
{ cat few.synthetic && echo 'loss: answers'; } >answers.synthetic
"$WEFT" tokenizer train --vocab 329 -o tok3 few.synthetic 2>/dev/null
for loss in few answers; do
    expect 0 '' "$WEFT" data build --tokenizer tok3 -o "$loss" --heldout 0 "$loss.synthetic"
done
check 'answers are targets' test "$(counted answers)" = 1600
check 'and only they' test "$(counted few)" = 9200
printf 'tokenizer: tok3\nout: cut\nheldout: 0\nsources:\n  a:\n    path: answers.synthetic\nlines:\n  min_characters: 1\n' >cut.yaml
expect 2 'answers.synthetic: a step of the recipe has changed document' "$WEFT" data build cut.yaml
expect 2 "answers.synthetic:5: loss is 'answer'; it must be all or answers" sh -c \
    'sed -i s/answers/answer/ answers.synthetic && "$0" tokenizer train --vocab 329 -o no answers.synthetic' "$WEFT"

# Killed while files are read, and later; gone on with on another number of ranks.
for moment in 'read 2' 'sign 2' 'shards 1'; do
    set -- $moment
    status=$(in_folder killed corpus kill out.work "$1" "$2" all mpirun -n 2 "$WEFT" data build ../mixed.yaml 2>killed.log)
    check "killed in $1 (status ${status:-none})" test -n "$status" -a "${status:-0}" != 0
    check 'nothing appears' test ! -e killed/out
done
expect 0 'going on with the build' in_folder killed build 3 mixed
check 'the same bytes after three deaths' same killed

# What is wrong is said, with its line, before any work.
printf 'task: needle\ndocuments: 3\n# few\nneedles: 65\n' >tasks/needle.synthetic
expect 2 '../tasks/needle.synthetic:4: needles is 65-65; it must be a range within 1-64' in_folder bad build 1 mixed
expect 2 'needle.synthetic:4: needles is 65-65' in_folder bad build 2 mixed
check 'nothing appears' test ! -e bad/out -a ! -e bad/out.work
expect 2 "tasks/needle.synthetic:4: needles is 65-65" "$WEFT" tokenizer train --vocab 900 -o tok4 tasks/needle.synthetic
expect 2 "format is 'syntetic'; it must be one of auto|txt|jsonl|warc|wet|code|synthetic" in_folder bad build 1 mixed \
    sources.tasks.format=syntetic
finish
