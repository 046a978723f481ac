# `weft eval --suite`: the tasks, settings from everywhere, the file, the same bytes on any number of ranks.
source "$CLI_DIR/lib.sh"
tiny=$SRC/configs/tiny-hybrid.yaml

# together 'text' COMMAND...: ends with status 2 on all ranks, and says why once
together() {
    local text=$1 got
    shift
    expect 2 "$text" timeout 120 "$@"
    got=$(timeout 120 "$@" 2>&1 | grep -c 'weft: .*error:')
    check "said once, was $got" test "$got" -eq 1
}
has() { # FILE PATTERN...: every pattern is there
    local file=$1 pattern
    shift
    for pattern in "$@"; do check "$pattern" grep -qE -- "$pattern" "$file"; done
}

words=(horse eagle apple hammer castle doctor wagon ribbon turtle garden)
for i in $(seq 240); do echo "The ${words[i % 10]} sees the ${words[i * 7 % 10]} near the ${words[i / 10 % 10]}, $i times."; done >prose.lines
for i in $(seq 120); do echo "if (x_$i == $((i % 7))) { return ${words[i % 10]}; }"; done >code.lines
jsonl() { sed 's/.*/{"text": "&", "domain": "'"$1"'"}/' "$1.lines"; }
{ jsonl prose && jsonl code; } >corpus.jsonl
"$WEFT" tokenizer train --vocab 360 -o tok corpus.jsonl >/dev/null 2>&1
"$WEFT" data build --tokenizer tok -o data --heldout 0.2 corpus.jsonl >/dev/null
expect 0 'done: step 5' "$WEFT" train "$tiny" run=run model.vocab_size=360 data.path=data train.steps=5
printf '%s\n' '{"query": "The horse sees the", "choices": ["apple", " castle near"], "gold": 1}' '' \
    '{"context": "return ", "choices": ["horse;", "eagle;", "x"], "answer": "A"}' \
    '{"question": "", "choices": ["if", "The"], "label": "The"}' >q.jsonl
small=(recall.pairs=2,3 recall.documents=5 copy.words=4 copy.documents=3 labels.examples=3,6 labels.documents=5
    needle.lengths=200,400 needle.depths=3 needle.documents=2 induction.tokens=8 induction.documents=2
    activations.sequences=2 context.lengths=32,64 context.decode=4 choices.file=q.jsonl)

# ---- all tasks ----
"$WEFT" eval run --suite all --batch 3 --max-sequences 4 "${small[@]}" --json >all.json
has all.json '"model": "run/checkpoints/step_00000005"' '"step": 5' '"recall.pairs": "2, 3"' '"batch": "3"' \
    '"bits.max_sequences": "4"' '"seed": "1"'
for task in bits recall copy labels needle choices induction activations experts context; do
    check "$task is there" test "$(grep -cE "^  \"$task\": [[{]" all.json)" -eq 1
done
has all.json '"sequences": \{' '"bits_per_byte": ' '"pairs": 3' '"words": 4' '"answers": 15' '"random": \[' \
    '"named": \[' '"format": ' '"depths": \[' '"heads": \[' '"share": \[' '"cache_bytes": ' \
    '"accuracy_per_byte": '
check 'every sequence of four of each domain' test "$(sed -n '/"sequences": {/,/^    }/p' all.json | grep -cE '^ {10}[0-9.]+,$')" -eq 8
expect 0 'needle' "$WEFT" eval run --suite needle needle.lengths=200 needle.documents=1

# ---- without the suite nothing is new ----
"$WEFT" eval run --json --max-sequences 4 --batch 3 >bits.json
check 'the same domains' diff <(sed -n '/"domains"/,/^    }/p' all.json | tr -d ' ') <(sed -n '/"domains"/,/^  }/p' bits.json | tr -d ' ')
check 'no sequences' test "$(grep -c '"sequences"\|"suite"' bits.json)" -eq 0
check 'its members' test "$(grep -oE '^  "[a-z_]+"' bits.json | tr -d ' \n')" = '"model""step""split""seq_len""domains""all"'

# ---- any number of ranks, the same bytes ----
tasks=bits,recall,copy,labels,needle,choices,induction,activations
same=(--suite $tasks --batch 2 --json -o)
"$WEFT" eval run "${same[@]}" one.json "${small[@]}" >shown.json
check 'the file is what is shown' cmp one.json shown.json
for ranks in 2 3; do
    mpirun -n $ranks "$WEFT" eval run "${same[@]}" $ranks.json "${small[@]}" >/dev/null
    check "$ranks ranks" cmp one.json $ranks.json
done
check 'nothing half-written is left' test -z "$(ls -A | grep tmp)"

# ---- settings ----
printf 'tasks: recall\nseed: 4\nrecall:\n  pairs: "2, 3"\n  documents: 5\n' >settings.yaml
"$WEFT" eval run --settings settings.yaml recall.documents=2 --json >a.json
"$WEFT" eval run --suite recall seed=4 recall.pairs=2,3 recall.documents=2 --json >b.json
check 'a file and words give the same' cmp a.json b.json
check 'another seed gives another result' bash -c '! cmp -s b.json <("$1" eval run --suite recall seed=5 recall.pairs=2,3 recall.documents=2 --json)' sh "$WEFT"
expect 0 'multi-query associative recall' "$WEFT" eval --help
expect 0 '- `needle.depths`: integer, from 1 to 256; default `5`' "$WEFT" eval --doc
check 'the reference is printed once' test "$(mpirun -n 2 "$WEFT" eval --doc | grep -c '^# Evaluation')" -eq 1
check 'help names every task' test "$("$WEFT" eval --help | grep -cE '^  (bits|recall|copy|labels|needle|choices|induction|activations|context) ')" -eq 9

# ---- mistakes ----
together "unknown task 'recal'; did you mean 'recall'?" mpirun -n 2 "$WEFT" eval run --suite recal
together "did you mean 'recall.pairs'?" mpirun -n 2 "$WEFT" eval run --suite recall recall.pair=2
sed 's/pairs/pear/' settings.yaml >bad.yaml
together "bad.yaml:4:3: unknown setting 'recall.pear'" mpirun -n 2 "$WEFT" eval run --settings bad.yaml
together 'missing.yaml' mpirun -n 2 "$WEFT" eval run --settings missing.yaml
together 'say which tasks: --suite TASKS' mpirun -n 2 "$WEFT" eval run recall.pairs=2
together 'an argument is missing' mpirun -n 2 "$WEFT" eval --suite all
together 'choices.file=FILE.jsonl' mpirun -n 2 "$WEFT" eval run --suite choices
sed 's/"gold": 1/"gold": 2/' q.jsonl >wrong.jsonl
together "wrong.jsonl:1: 'gold' is not the index" mpirun -n 2 "$WEFT" eval run --suite choices choices.file=wrong.jsonl
together 'nothere' mpirun -n 2 "$WEFT" eval run --suite bits bits.data=nothere
# a document that does not fit is one rank's: it says so, and the others end with it
expect 2 'needle.lengths: 16 tokens are too few' timeout 120 mpirun -n 2 "$WEFT" eval run --suite needle needle.lengths=16
expect 2 'the settings of the evaluation' timeout 120 mpirun -n 1 "$WEFT" eval run --suite recall : -n 1 "$WEFT" eval run --suite copy
together 'nowhere/x.json: cannot be written' mpirun -n 2 "$WEFT" eval gone --suite recall -o nowhere/x.json # before the work

# ---- induction on the lines of copy ----
mpirun -n 2 "$WEFT" eval run --suite induction induction.text=copy "${small[@]}" --json 2>/dev/null >copy.json
has copy.json '"text": "copy"' '"score": '
check 'heads that have learnt nothing look everywhere alike' python3 -c 'import json
i = json.load(open("copy.json"))["induction"]
assert all(abs(h["score"] / i["chance"] - 1) < 0.2 for h in i["heads"]) and i["heads"], i'
expect 2 "induction.text is 'words'" "$WEFT" eval run --suite induction induction.text=words

# ---- a model without text ----
expect 0 'done: step 1' "$WEFT" train "$tiny" run=random train.steps=1
together 'holds no tokenizer.model' mpirun -n 2 "$WEFT" eval random --suite context,recall
together 'data.path=random has no held-out text' mpirun -n 2 "$WEFT" eval random --suite bits
expect 0 'bits per byte' "$WEFT" eval run --suite bits --max-sequences 1
mpirun -n 2 "$WEFT" eval random --suite all "${small[@]}" choices.file= --json 2>/dev/null >random.json
check 'what needs text is skipped' test "$(grep -c '"skipped": ' random.json)" -eq 5
has random.json '"heads": \[' '"cache_bytes": ' '"layers": \['
expect 0 'done: step 1' "$WEFT" train "$tiny" run=mamba train.steps=1 model.attn_layer_period=0
expect 0 'skipped: has no attention layer' "$WEFT" eval mamba --suite induction

# ---- a Hugging Face directory ----
expect 0 '' "$WEFT" export run -o hf
"$WEFT" eval hf --suite recall,choices --batch 2 --json "${small[@]}" >hf.json
"$WEFT" eval run --suite recall,choices --batch 2 --json "${small[@]}" >run.json
check 'the exported model scores the same' diff <(sed -n '/"recall": /,$p' hf.json) <(sed -n '/"recall": /,$p' run.json)
finish
