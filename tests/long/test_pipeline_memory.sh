# A corpus more than ten times the memory that a build is given: what a rank takes stays below the formula of
# data/build/build.h, and the result is that of a build with plenty.
source "$CLI_DIR/lib.sh"

cat >corpus.py <<'END'
import json, random
random.seed(7)
words = ["".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=random.randint(2, 10))) for _ in range(40000)]
def text():
    return "\n".join(" ".join(random.choices(words, k=14)) + "." for _ in range(random.randint(10, 60)))
kept, written = [], 0
with open("corpus.jsonl", "w") as f:
    while written < 700 << 20:
        t = random.choice(kept) if kept and random.random() < 0.1 else text()
        if random.random() < 0.05:  # a near duplicate of it
            w = t.split(" ")
            for _ in range(len(w) // 50 + 1):
                w[random.randrange(len(w))] = random.choice(words)
            t = " ".join(w)
        if len(kept) < 20000:
            kept.append(t)
        written += f.write(json.dumps({"text": t}) + "\n")
END
python3 corpus.py
head -n 2000 corpus.jsonl >some.jsonl
"$WEFT" tokenizer train --vocab 2000 -o tok some.jsonl 2>/dev/null
cat >recipe.yaml <<'END'
tokenizer: tok
sources:
  made:
    path: corpus.jsonl
unit_kib: 4096
normalise: {}
filters:
  gopher_repetition: {}
exact: {}
lines:
  copies: 100
near: {}
scrub: {}
END

# MiB at its peak, of one process
peak() {
    python3 - "$@" <<'END'
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
END
}
threads=2
for memory in 64 2048; do
    used=$(peak "$WEFT" data build recipe.yaml out=out$memory memory_mib=$memory --threads $threads)
    bound=$((threads * (4 + 48) + memory + 32 + 8))
    echo "memory_mib=$memory: peak $used MiB, the formula says $bound; corpus $(($(stat -c %s corpus.jsonl) >> 20)) MiB"
    check "memory_mib=$memory keeps to the formula" test "$used" -le "$bound"
done
check 'memory changes no byte of the result' diff -r -x report.html out64 out2048
rm -r out2048 corpus.jsonl
finish
