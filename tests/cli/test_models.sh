# What uses a trained model: logprob, generate, export, import, eval; and plan, --help, the full disk.
source "$CLI_DIR/lib.sh"
tiny=$SRC/configs/tiny-hybrid.yaml

losses() { sed -E 's/.*"step": ([0-9]+), "loss": ([^,]+), "grad_norm": ([^,]+),.*/\1 \2 \3/' "$1/metrics.jsonl"; }
logprob() { "$WEFT" logprob "$1" --ids ids --json; }
same_logprobs() { logprob "$1" >got.json && cmp got.json want.json; }
nothing_left() { test -z "$(ls -d "$1"* 2>/dev/null)"; }
# near A B TOLERANCE: relative
near() { awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(b > 0 && d <= t * b) }'; }
# number FILE KEY [N]: the Nth value of a key in JSON
number() { grep -oE "\"$2\": [-+.0-9eE]+" "$1" | sed -n "${3:-1}{s/.*: //;p}"; }
# Ends with status 2 on all ranks, and not by waiting for ever: what it says, how often, the command.
together() {
    local text=$1 times=$2 got
    shift 2
    expect 2 "$text" timeout 120 "$@"
    got=$(timeout 120 "$@" 2>&1 | grep -c 'weft: .*error:')
    check "said $times time(s), was $got" test "$got" -eq "$times"
}

expect 0 'done: step 4' "$WEFT" train "$tiny" run=run train.steps=4 checkpoint.every=2
step=run/checkpoints/step_00000004

# ---- logprob ----
printf '1 5 9\n7\n 3\t511 0  2 2 \r\n' >ids
logprob run >want.json
check 'the shape of the lists' test "$(tr -d '0-9. \n' <want.json)" = '{"logprobs":[[-,-],[],[-,-,-,-]]}'
check 'a checkpoint gives the same' same_logprobs $step
check 'an older one does not' bash -c '! cmp -s want.json <("$1" logprob run/checkpoints/step_00000002 --ids ids --json)' sh "$WEFT"
expect 0 '' "$WEFT" export run -o hf
check 'a Hugging Face directory gives the same' same_logprobs hf
check 'standard input gives the same' cmp want.json <("$WEFT" logprob hf --ids - --json <ids)
expect 0 '(sum -' "$WEFT" logprob run --ids ids

# The probabilities of everything that can follow add up to 1, and a longer sequence begins like a shorter one.
for i in $(seq 0 511); do echo "3 77 $i"; done >all
"$WEFT" logprob run --ids all --json >all.json
check 'one list a line' test "$(grep -c '^  \[' all.json)" -eq 512
check 'probabilities add up to 1' awk '/^  \[/ { gsub(/[][,]/, " "); s += exp($2); if (!first) first = $1; if ($1 - first > 1e-5 || first - $1 > 1e-5) bad = 1 }
    END { exit !(s > 0.99999 && s < 1.00001 && !bad) }' all.json

bad_ids() { # 'reason' 'content' of a file of ids
    printf -- "$2" >bad
    expect 2 "$1" "$WEFT" logprob run --ids bad --json
}
bad_ids "bad:2: 'word' is not a token id" '1 2\n3 word 5\n'
bad_ids "bad:1: '2.5' is not a token id" '1 2.5\n'
bad_ids 'bad:3: token id 512 is not in 0..511' '1 2\n3\n4 512'
bad_ids 'bad:1: token id -1 is not in 0..511' '-1 2\n'
bad_ids 'is not in 0..511' '99999999999999999999\n'
bad_ids 'bad:2: no token on this line' '1 2\n\n3 4\n'
bad_ids 'bad:2: holds a zero byte' '1 2\n3 4\0005\n'
bad_ids 'bad: is empty' ''
expect 2 'nothere: cannot be opened' "$WEFT" logprob run --ids nothere
expect 2 '--ids FILE is missing' "$WEFT" logprob run
expect 2 'no model here' "$WEFT" logprob nowhere --ids ids
mkdir -p begun/checkpoints
expect 2 'begun: holds no checkpoint yet' "$WEFT" logprob begun --ids ids
if [ -w /dev/full ]; then
    for command in 'logprob run --ids ids' 'logprob run --ids ids --json' 'generate run --ids 5 --max-tokens 4' \
        "plan $tiny" "plan $tiny --json" 'export run -o full-export'; do
        expect 2 'cannot write the output' bash -c '"$0" $1 >/dev/full' "$WEFT" "$command"
    done
fi

# ---- export ----
bytes() { cat "$1"/*.safetensors | wc -c; }
expect 2 'hf: exists' "$WEFT" export run -o hf
expect 2 'hf: exists' "$WEFT" export run -o hf/
expect 0 '"parameters": 800188, "step": 4' "$WEFT" export run -o half --dtype bfloat16 --json
check 'half the bytes' test $(($(bytes half) * 2)) -lt $(($(bytes hf) + 100000))
"$WEFT" logprob half --ids all --json >half.json
check 'bfloat16 is near' awk '{ gsub(/[][,]/, " ") } NR == FNR { a[FNR] = $2; next } { d = $2 - a[FNR]; if (d > 0.1 || d < -0.1) exit 1; if (d) differ++ } END { exit !differ }' all.json half.json
expect 0 '' "$WEFT" export hf -o again
check 'an export of an export is the same' diff -r hf again
expect 0 '' "$WEFT" export run -o shards --max-shard-size 1
check 'several files and their index' test -s shards/model.safetensors.index.json -a "$(ls shards/*-of-00004.safetensors | wc -l)" -eq 4
check 'shards give the same' same_logprobs shards
expect 0 '' "$WEFT" import shards -o imported
check 'imported, the same' same_logprobs imported
expect 0 '' "$WEFT" export imported -o back
check 'export, import, export: the same bytes' diff -r hf back

expect 2 '--format gguf2: only hf' "$WEFT" export run -o x --format gguf2
expect 2 '--dtype int8: float32 or bfloat16' "$WEFT" export run -o x --dtype int8
expect 2 '--max-shard-size 0' "$WEFT" export run -o x --max-shard-size 0
expect 2 '--max-shard-size 9223372036854775807' "$WEFT" export run -o x --max-shard-size 9223372036854775807
expect 2 '-o DIR is missing' "$WEFT" export run
expect 2 'no/x' "$WEFT" export run -o no/x
cannot() { # 'reason' key=value of a model that the format has not
    rm -rf odd
    "$WEFT" train "$tiny" run=odd train.steps=1 "$2" >/dev/null 2>&1
    expect 2 "JambaForCausalLM cannot express $1" "$WEFT" export odd -o x
    expect 0 'logprobs' "$WEFT" logprob odd --ids ids --json
}
cannot 'rotary positions' model.positions=rope
cannot 'Mamba without the norms' model.mamba_inner_norm=false
cannot 'renormalised top-k probabilities' model.norm_topk_prob=true
cannot 'this pattern of attention layers' model.mixer_pattern=MMAAMMMM
cannot 'layers without a feed-forward part' model.ffn_pattern=DEDEDED.
check 'nothing is left behind' nothing_left x

# ---- import ----
# A run that starts from imported weights is the run that starts from them itself.
"$WEFT" train "$tiny" run=fresh train.steps=3 >/dev/null 2>&1
"$WEFT" train "$tiny" run=initial train.steps=1 optim.lr=1e-30 optim.min_lr=0 optim.weight_decay=0 >/dev/null 2>&1
"$WEFT" export initial -o start >/dev/null && expect 0 '"step": 0' "$WEFT" import start -o go-on --json
expect 0 'going on from go-on/checkpoints/step_00000000' "$WEFT" train "$tiny" run=go-on train.steps=3
check 'three steps' test "$(wc -l <go-on/metrics.jsonl)" -eq 3
check 'the losses of the run from these weights' diff <(losses go-on) <(losses fresh)
expect 0 '' "$WEFT" import hf -o other-data
expect 0 'done: step 2' "$WEFT" train "$tiny" run=other-data train.steps=2 train.seq_len=32 seed=4
expect 2 'another model' "$WEFT" train "$tiny" run=imported train.steps=2 model.num_experts_per_tok=1

refuse() { # 'reason' of import, on a copy of hf that the caller spoilt
    expect 2 "$1" "$WEFT" import copy -o x
    expect 2 "$1" "$WEFT" logprob copy --ids ids
    check 'nothing is left behind' nothing_left x
    rm -rf copy
}
# The header of safetensors is text: names are changed in place, by as many letters.
spoil() { rm -rf copy && cp -r hf copy; }
spoil && sed -i 's/"model.final_layernorm.weight"/"model.final_layernorm.weighs"/' copy/model.safetensors &&
    refuse 'missing tensor model.final_layernorm.weight [64]'
spoil && sed -i 's/"model.final_layernorm.weight"/"model.final_layernorm.weighs"/' copy/model.safetensors &&
    refuse 'unexpected tensor model.final_layernorm.weighs'
spoil && sed -i 's/"model.embed_tokens.weight":{"dtype":"F32","shape":\[512,64\]/"model.embed_tokens.weight":{"dtype":"F32","shape":[64,512]/' copy/model.safetensors &&
    refuse 'model.embed_tokens.weight has the shape [64, 512]; the model needs [512, 64]'
spoil && truncate -s -100 copy/model.safetensors && refuse 'copy/model.safetensors'
spoil && truncate -s 5 copy/model.safetensors && refuse 'copy/model.safetensors'
spoil && rm copy/model.safetensors && refuse 'has neither model.safetensors nor'
spoil && sed -i 's/"num_hidden_layers": 8/"num_hidden_layers": 9/' copy/config.json && refuse 'missing tensor model.layers.8.'
spoil && sed -i 's/"jamba"/"llama"/' copy/config.json && refuse 'model_type is "llama"'
spoil && echo '{' >copy/config.json && refuse 'copy/config.json:'
rm -rf copy && cp -r shards copy && rm copy/model-00003-of-00004.safetensors && refuse 'model-00003-of-00004.safetensors'
expect 2 'imported: exists' "$WEFT" import hf -o imported
expect 2 'run: is not a Hugging Face directory' "$WEFT" import run -o x
expect 2 '-o RUN is missing' "$WEFT" import hf
expect 2 'no/x' "$WEFT" import hf -o no/x
check 'nothing is left behind' nothing_left x

# Weights that are no numbers: never a list that is not JSON.
cp -r hf nan
size=$(stat -c %s nan/model.safetensors)
for ((i = 0; i < 400; i++)); do printf '\377\377\377\377'; done | dd of=nan/model.safetensors bs=1 seek=$((size - 1600)) conv=notrunc 2>/dev/null
expect 2 'of sequence 1 is not a finite number' "$WEFT" logprob nan --ids ids --json
expect 2 'its logits are not finite' "$WEFT" generate nan --ids 5

# ---- generate ----
generate() { "$WEFT" generate run --ids '1 5 9' --max-tokens 40 "$@"; }
greedy=$(generate --temperature 0)
check 'the prompt, then 40 tokens at most' bash -c '[[ "$0" == "1 5 9 "* ]] && (($(wc -w <<<"$0") <= 43 && $(wc -w <<<"$0") > 5))' "$greedy"
check 'greedy is the same again' test "$(generate --temperature 0 --seed 9)" = "$greedy"
check '--top-k 1 is greedy' test "$(generate --top-k 1 --temperature 3 --seed 4)" = "$greedy"
check 'a tiny --top-p is greedy' test "$(generate --top-p 1e-9 --temperature 3)" = "$greedy"
check 'one seed, one text' test "$(generate --seed 3)" = "$(generate --seed 3)"
check 'another seed, another text' test "$(generate --seed 3)" != "$(generate --seed 4)"
check 'the exported model writes the same' test "$("$WEFT" generate hf --ids '1 5 9' --max-tokens 40 --temperature 0)" = "$greedy"
expect 0 '{"ids": [1, 5, 9, ' generate --json
expect 0 '"prompt_tokens": 3}' generate --json
# Each greedy token is the likeliest of all that could stand there, as logprob has it.
set -- $greedy
for i in $(seq 0 511); do echo "$1 $2 $3 $4 $5 $i"; done >next
best=$("$WEFT" logprob run --ids next --json | awk '/^  \[/ { gsub(/[][,]/, " "); if (!n || $5 > top) { top = $5; best = n } n++ } END { print best }')
check "generate agrees with logprob about the third token" test "$best" = "$6"
expect 2 'holds no tokenizer.model' "$WEFT" generate run --prompt hello
expect 2 'give --prompt or --ids, not both' "$WEFT" generate run --prompt a --ids 5
expect 2 "'512' is not a token id in 0..511" "$WEFT" generate run --ids '5 512'
expect 2 "'x' is not a token id" "$WEFT" generate run --ids '5 x 7'
expect 2 '--ids: no token id' "$WEFT" generate run --ids ' '
expect 2 '--max-tokens 0' generate --max-tokens 0
expect 2 '--max-tokens 9223372036854775807' generate --max-tokens 9223372036854775807
expect 2 '--temperature -1' generate --temperature=-1
expect 2 '--top-p 1.5' generate --top-p 1.5
expect 2 '--top-k -1' generate --top-k=-1
expect 2 "did you mean '--top-k'" generate --topk 3
expect 2 'wants an integer' generate --seed x

# ---- eval ----
# The documents are known, so that what eval must find can be computed from logprob.
words=(weft warp loom thread shuttle heddle reed selvage bobbin cloth)
for i in $(seq 240); do echo "${words[i % 10]} ${words[i * 7 % 10]} the ${words[i / 10 % 10]}, $i times $((i * i)); Größe ${words[i * 3 % 10]}."; done >prose.lines
for i in $(seq 120); do echo "if (x_$i == $((i % 7))) { return ${words[i % 10]}; }"; done >code.lines
jsonl() { sed 's/.*/{"text": "&", "domain": "'"$1"'"}/' "$1.lines"; }
{ jsonl prose && jsonl code; } >corpus.jsonl
"$WEFT" tokenizer train --vocab 360 -o tok corpus.jsonl >/dev/null 2>&1
"$WEFT" data build --tokenizer tok -o data --heldout 0.1 corpus.jsonl >/dev/null
"$WEFT" data build --tokenizer tok -o known --heldout 0 corpus.jsonl >/dev/null
expect 0 'done: step 6' "$WEFT" train "$tiny" run=text model.vocab_size=360 data.path=data train.steps=6
expect 0 'bits per byte' "$WEFT" eval text
"$WEFT" eval text --json >eval.json
check 'both domains and all' test "$(grep -cE '"(prose|code|all)": \{' eval.json)" -eq 3
check 'bits per byte, losses' awk '/"(bits_per_byte|loss|perplexity)"/ { gsub(/,/, ""); n++; if (!($2 > 0.1 && $2 < 1000)) exit 1 } END { exit n != 9 }' eval.json
check 'tokens add up' test $(($(number eval.json tokens 1) + $(number eval.json tokens 2))) -eq "$(number eval.json tokens 3)"
for ranks in 2 3; do
    mpirun -n $ranks "$WEFT" eval text --json --batch 3 >ranks.json
    for key in loss bits_per_byte tokens bytes; do
        for i in 1 2 3; do check "$ranks ranks give the $key $i of one" near "$(number ranks.json $key $i)" "$(number eval.json $key $i)" 1e-9; done
    done
done
expect 0 '' "$WEFT" export text -o text-hf
"$WEFT" eval text-hf --data data --json --seq-len 64 | grep -v '"model"\|"step"' >hf.json
check 'the exported model scores the same' diff hf.json <(grep -v '"model"\|"step"' eval.json)
expect 0 "$(printf '%-16s %12d ' prose 6)" "$WEFT" eval text --seq-len 3 --max-sequences 2

# All documents in one sequence: the sum over documents, each on its own.
for domain in prose code; do
    while IFS= read -r line; do "$WEFT" tokenizer encode tok --text "$line" --bos --eos; done <$domain.lines >$domain.ids
    tokens=$(wc -w <$domain.ids) text=$(tr -d '\n' <$domain.lines | wc -c)
    nats=$("$WEFT" logprob text --ids $domain.ids | awk '{ gsub(/[)]/, ""); s -= $NF } END { printf "%.9g", s }')
    "$WEFT" eval text --data known --split train --seq-len $((tokens - 1)) --json | sed -n "/\"$domain\"/,/}/p" >known.json
    check "$domain: every byte is counted" test "$(number known.json bytes)" -eq "$text"
    check "$domain: every token but the first of each document" test "$(number known.json tokens)" -eq $((tokens - $(wc -l <$domain.ids)))
    check "$domain: bits per byte are logprob's" near "$(number known.json bits_per_byte)" "$(awk -v n="$nats" -v b="$text" 'BEGIN { printf "%.12g", n / log(2) / b }')" 1e-6
done
expect 0 'weft' "$WEFT" generate text --prompt 'weft ' --max-tokens 5
expect 0 '"text": "weft ' "$WEFT" generate text-hf --prompt 'weft ' --max-tokens 5 --json --temperature 0

{ jsonl prose | tail -n 200 && jsonl code; } >part.jsonl
"$WEFT" tokenizer train --vocab 360 -o tok3 part.jsonl >/dev/null 2>&1
"$WEFT" data build --tokenizer tok3 -o data3 corpus.jsonl >/dev/null
together 'made with another tokenizer' 1 mpirun -n 2 "$WEFT" eval text --data data3 --seq-len 8
together 'made with another tokenizer' 1 mpirun -n 2 "$WEFT" eval text-hf --data data3 --seq-len 8
together "360 tokens, but the model's vocabulary is 512" 1 mpirun -n 2 "$WEFT" eval run --data data
together 'data.path=random has no held-out text' 1 mpirun -n 2 "$WEFT" eval run
together 'text-hf: names no data' 1 mpirun -n 2 "$WEFT" eval text-hf
together 'no model here' 1 mpirun -n 2 "$WEFT" eval nowhere
together 'unknown option' 1 mpirun -n 2 "$WEFT" eval text --dato data
together "there is no split 'test'" 1 mpirun -n 2 "$WEFT" eval text --split test
together '--batch 0' 1 mpirun -n 2 "$WEFT" eval text --batch 0
together 'weft logprob runs on one rank' 1 mpirun -n 2 "$WEFT" logprob run --ids ids
expect 2 '--seq-len 4611686018427387904' "$WEFT" eval text --seq-len 4611686018427387904
expect 2 '--max-sequences -1' "$WEFT" eval text --max-sequences=-1
expect 2 'too few' "$WEFT" eval text --seq-len 100000
cp -r text cut && truncate -s -50 cut/checkpoints/step_00000006/rank_00000.h5
together 'rank_00000.h5 has' 1 mpirun -n 2 "$WEFT" eval cut/checkpoints/step_00000006
cp -r text-hf cut-hf && truncate -s -50 cut-hf/model.safetensors
together 'cut-hf/model.safetensors' 1 mpirun -n 2 "$WEFT" eval cut-hf --data data
cp -r text strange && cp tok3/tokenizer.model strange/checkpoints/step_00000006/
expect 2 'tokenizer.model is not the one that it was trained with' "$WEFT" export strange/checkpoints/step_00000006 -o x
rm strange/checkpoints/step_00000006/tokenizer.model
expect 2 'tokenizer.model is missing' "$WEFT" generate strange/checkpoints/step_00000006 --prompt a

# One rank alone fails: it says so, and the others end with it.
alone() { # 'reason' arguments of the second rank
    local why=$1
    shift
    together "$why" 1 mpirun -n 1 "$WEFT" eval text --data data : -n 1 "$WEFT" eval "$@"
}
alone '[rank 1] error: nothere' text --data nothere
alone '[rank 1] error: weft eval: unknown option' text --dota data
alone '[rank 1] error: --batch 0' text --data data --batch 0
newest=checkpoints/step_00000006
together "[rank 1] error: elsewhere/$newest" 1 mpirun -n 1 "$WEFT" eval text/$newest : -n 1 "$WEFT" eval elsewhere/$newest
together '[rank 1] error: gone' 1 mpirun -n 1 "$WEFT" eval text-hf --data data : -n 1 "$WEFT" eval gone --data data
cp -r data torn
shard=torn/heldout/prose-00000.h5
# In each zstd frame: the file opens, and reading its tokens fails.
for at in $(LC_ALL=C grep -aboP '\x28\xb5\x2f\xfd' $shard | cut -d: -f1); do
    printf '\252\125\252\125' | dd of=$shard bs=1 seek=$((at + 12)) conv=notrunc 2>/dev/null
done
alone '[rank 1] error: torn/heldout/prose-00000.h5' text --data torn

# ---- plan ----
"$WEFT" plan "$SRC/configs/models/jamba-52b.yaml" --json >plan.json
check 'Jamba: all parameters' test "$(number plan.json total)" = 51570323328
check 'Jamba: those of one token' test "$(number plan.json active)" = 12110311296
check 'Jamba: keys and values of 256 Ki tokens' test "$(number plan.json kv_cache_bytes)" = 4294967296
expect 0 '"kv_cache_bytes": 16384,' "$WEFT" plan "$SRC/configs/models/jamba-52b.yaml" --json --context 1
expect 0 '51570323328' "$WEFT" plan "$SRC/configs/models/jamba-52b.yaml"
expect 2 '--context 9223372036854775807' "$WEFT" plan "$tiny" --context 9223372036854775807
expect 2 '--ranks 4294967297' "$WEFT" plan "$tiny" --ranks 4294967297
expect 2 'cannot share' "$WEFT" plan "$tiny" --ranks 3
expect 2 "did you mean 'train.steps'" "$WEFT" plan "$tiny" train.step=5
expect 2 'nothere.yaml' "$WEFT" plan nothere.yaml

# ---- --help ----
for command in $("$WEFT" --help | sed -n 's/^  \([a-z]*\) .*/\1/p'); do
    expect 0 "weft $command" "$WEFT" "$command" --help
done

# ---- the full disk ----
# KIB COMMAND...: no file may become larger. PMIx keeps large files of its own unless it is told to use none.
cat >limited <<'END'
#!/bin/bash
trap '' XFSZ
ulimit -f "$1"
shift
PMIX_MCA_gds=hash exec "$@"
END
chmod +x limited
whole_until_4() {
    test "$(ls -d run/checkpoints/step_*)" = "$(printf 'run/checkpoints/step_0000000%s\n' 2 4)" && "$WEFT" ckpt verify run >/dev/null
}
for ranks in 1 2; do
    for room in 600 2000 4000; do # a ledger takes 516 KiB
        expect 2 'step_00000006.tmp.' env PMIX_MCA_gds=hash timeout 120 mpirun -n $ranks ./limited $room "$WEFT" train "$tiny" run=run train.steps=6
        check "with $room KiB: earlier checkpoints are whole, nothing is left over" whole_until_4
    done
done
check 'the same model still' same_logprobs run
for room in 10 1000 3000; do
    expect 2 'File too large' ./limited $room "$WEFT" export run -o x
    expect 2 'File too large' ./limited $room "$WEFT" import hf -o x
    check "with $room KiB nothing is left behind" nothing_left x
done
mkdir disk
if mount -t tmpfs -o size=24m tmpfs disk 2>/dev/null; then
    trap 'umount disk 2>/dev/null' EXIT
    expect 0 '' "$WEFT" train "$tiny" run=disk/run train.steps=2
    head -c 10000000 /dev/zero >disk/ballast
    expect 2 'disk/run/checkpoints: a checkpoint needs' "$WEFT" train "$tiny" run=disk/run train.steps=4
    check 'the earlier checkpoint is whole' "$WEFT" ckpt verify disk/run
    check 'and the only one' test "$(ls disk/run/checkpoints | tr '\n' ' ')" = 'latest step_00000002 '
    head -c 20000000 /dev/zero >disk/ballast 2>/dev/null
    expect 2 'No space left on device' "$WEFT" export run -o disk/x
    expect 2 'disk/x' "$WEFT" import hf -o disk/x
    check 'nothing is left behind' nothing_left disk/x
    umount disk
else
    echo 'skipped: no tmpfs can be mounted here; the full disk was tried with ulimit only'
fi
check 'help is printed once' test "$(mpirun -n 2 "$WEFT" eval --help | grep -c ^usage)" -eq 1
finish
