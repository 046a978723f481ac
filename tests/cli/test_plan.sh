# weft plan: caches and longest contexts, an estimated step, the search for a mesh; weft bench. No time is tested.
source "$CLI_DIR/lib.sh"
tiny=$SRC/configs/tiny-hybrid.yaml
cpu=(device=cpu precision=fp32) # models of the paper's size ask for a GPU
# number FILE KEY [N]: the Nth value of a key in JSON
number() { grep -oE "\"$2\": [-+.0-9eE]+" "$1" | sed -n "${3:-1}s/.*: //p"; }
within() { awk -v a="$1" -v low="$2" -v high="$3" 'BEGIN { exit !(a >= low && a <= high) }'; }

# ---- the paper's table 1: parameters, keys and values of 256 Ki tokens in 16 bit ----
row() { # MODEL PARAMETERS ACTIVE GIB
    "$WEFT" plan "$SRC/configs/models/$1.yaml" "${cpu[@]}" --context 262144 --json >row.json
    check "$1: parameters" test "$(number row.json total)" = "$2" -a "$(number row.json active)" = "$3"
    check "$1: $4 GiB of keys and values" test "$(number row.json kv_cache_bytes)" = $(($4 << 30))
}
row llama-2-7b 6738415616 6738415616 128
row mistral-7b 7241732096 7241732096 32
row mixtral-8x7b 46702792704 12879925248 32
row jamba-52b 51570323328 12110311296 4
expect 0 '128.00 GiB' "$WEFT" plan "$SRC/configs/models/llama-2-7b.yaml" "${cpu[@]}"
expect 0 'keys and values, 8 bit               2147483648' "$WEFT" plan "$SRC/configs/models/jamba-52b.yaml" "${cpu[@]}" --kv-bits 8

# ---- the longest context on one GPU of 80 GB, weights in 8 bit ----
longest() { # MODEL: tokens, the prompt in parts; the prompt at once
    "$WEFT" plan "$SRC/configs/models/$1.yaml" "${cpu[@]}" --inference --memory 80 --weight-bits 8 --kv-bits 16 --json >$1.json
    number $1.json longest_context
    number $1.json longest_context_at_once
}
jamba=($(longest jamba-52b)) mixtral=($(longest mixtral-8x7b)) llama=($(longest llama-2-70b))
# Memory, less what is left free, weights, state and a part's activations, over the bytes of a token.
by_hand() { # MODEL
    awk -v m="$(number $1.json memory_bytes)" -v r="$(number $1.json reserve_bytes)" -v w="$(number $1.json weight_bytes)" \
        -v s="$(number $1.json state_bytes)" -v a="$(number $1.json prefill_bytes)" -v k="$(number $1.json kv_bytes_per_token)" \
        'BEGIN { printf "%d\n", (m - r - w - s - a) / k }'
}
for model in jamba-52b mixtral-8x7b llama-2-70b; do
    check "$model: the longest context is what is left over a token's bytes" test "$(by_hand $model)" = "$(number $model.json longest_context)"
done
check "Jamba: a token takes 16 KiB, Mixtral 128, Llama-2-70B 320" test "$(number jamba-52b.json kv_bytes_per_token | cut -d. -f1)" = 16384 -a \
    "$(number mixtral-8x7b.json kv_bytes_per_token | cut -d. -f1)" = 131072 -a "$(number llama-2-70b.json kv_bytes_per_token | cut -d. -f1)" = 327680
check "Jamba: a prompt at once is near the paper's 140K" within "${jamba[1]}" 110000 150000
check "in parts, prompts are longer" test "${jamba[0]}" -gt "${jamba[1]}" -a "${mixtral[0]}" -gt "${mixtral[1]}" -a "${llama[0]}" -gt "${llama[1]}"
check "Jamba before Mixtral before Llama" test "${jamba[1]}" -gt "${mixtral[1]}" -a "${mixtral[1]}" -gt "${llama[1]}"
expect 0 'longest, prompt in parts of 8192 tokens' "$WEFT" plan "$tiny" --inference --prefill 8192
expect 0 'no limit' "$WEFT" plan "$tiny" --inference model.mixer_pattern=MMMMMMMM
expect 0 '"longest_context": null' "$WEFT" plan "$tiny" --inference model.mixer_pattern=MMMMMMMM --json
expect 0 '"longest_context": 0' "$WEFT" plan "$SRC/configs/models/llama-2-70b.yaml" "${cpu[@]}" --inference --memory 24 --json
expect 2 '--prefill 0: must be from 1' "$WEFT" plan "$tiny" --inference --prefill 0
expect 2 '--memory 0' "$WEFT" plan "$tiny" --inference --memory 0
expect 2 '--reserve 90' "$WEFT" plan "$tiny" --inference --memory 80 --reserve 90

# ---- an estimated step ----
for machine in h100 h200 a100 b200; do
    expect 0 'model FLOP utilisation' "$WEFT" plan "$tiny" --machine $machine
    expect 0 'not measured' "$WEFT" plan "$tiny" --machine $machine # says where its numbers are from
done
"$WEFT" plan "$tiny" --ranks 8 --machine h100 --json >step.json
parts=$(sed -n '/"operations": {/,/}$/p' step.json | grep -oE '"seconds": [0-9.e+-]+' | sed 's/.*: //' | awk '{ s += $1 } END { print s }')
check "the kinds of operations add up" within "$(number step.json operations)" "$(awk -v p="$parts" 'BEGIN { print 0.99 * p }')" "$(awk -v p="$parts" 'BEGIN { print 1.01 * p }')"
check "tokens, seconds and days agree" awk -v t="$(number step.json tokens_per_second)" -v s="$(number step.json step_seconds)" \
    -v d="$(number step.json days)" 'BEGIN { exit !(s > 0 && t * s > 511 && t * s < 513 && d * 86400 > 49 * s && d * 86400 < 51 * s) }'
expect 0 'collectives of fsdp' "$WEFT" plan "$tiny" --ranks 8 --machine h100
expect 0 'less what operations cover' "$WEFT" plan "$tiny" --ranks 8 --machine h100

# ---- descriptions that are wrong say where ----
good() { printf 'name: x\nbandwidth: 1e11\nspecial: 1e9\nvector: 1e10\nproducts: {fp32: 1e12}\n'; }
good >m.yaml
expect 0 'a step on x' "$WEFT" plan "$tiny" --machine m.yaml
expect 2 'describes no link.network' "$WEFT" plan "$tiny" --machine m.yaml --ranks 2
wrong() { # MESSAGE LINE...: the good file, and these lines
    local text=$1
    shift
    { good; printf '%s\n' "$@"; } >bad.yaml
    expect 2 "$text" "$WEFT" plan "$tiny" --machine bad.yaml
}
wrong "bad.yaml:6:1: unknown key 'lunch'; did you mean 'launch'?" 'lunch: 3'
wrong "bad.yaml:6:9: launch: 'soon' is not a number above 0" 'launch: soon'
wrong "bad.yaml:6:9: memory: '-5' is not a number above 0" 'memory: -5'
wrong "bad.yaml:6:10: overlap: 'maybe' is neither true nor false" 'overlap: maybe'
cat >bad.yaml <<'END'
name: x
special: 1e9
vector: 1e10
products: {fp32: 1e12}
END
expect 2 "bad.yaml: has no key 'bandwidth'" "$WEFT" plan "$tiny" --machine bad.yaml
expect 2 'nothere.yaml' "$WEFT" plan "$tiny" --machine nothere.yaml
expect 2 '--machine z9: there is no z9.yaml' "$WEFT" plan "$tiny" --machine z9
printf 'name: x\nbandwidth: 1e11\nspecial: 1e9\nvector: 1e10\nproducts:\n  bf16: {forward: 1e12, data: 1e12}\n' >bad.yaml
expect 2 'products.bf16 wants forward, data and weights' "$WEFT" plan "$tiny" --machine bad.yaml
printf 'name: x\nbandwidth: 1e11\nspecial: 1e9\nvector: 1e10\nproducts:\n  fp32: {64: 1e12, 64.0: 2e12}\n' >bad.yaml
expect 2 'bad.yaml:6:20: products.fp32.64.0: a rate of this size is there already' "$WEFT" plan "$tiny" --machine bad.yaml
printf 'name: x\nbandwidth: 1e11\nspecial: 1e9\nvector: 1e10\nproducts: {bf16: 1e12}\n' >bad.yaml
expect 2 'x: has no products.fp32, which this configuration computes in' "$WEFT" plan "$tiny" --machine bad.yaml

# ---- the search ----
toy() { good; printf 'node: 4\noverlap: true\nlink: {node: {bandwidth: 1e10}, network: {bandwidth: 1e9}}\n'; }
toy >toy.yaml
search=(--search --gpus 8 --machine toy.yaml --reserve 0)
"$WEFT" plan "$tiny" "${search[@]}" --memory 0.003 --json >search.json
rises() { awk 'NR > 1 && $1 < last { bad = 1 } { last = $1 } END { exit bad || NR < 2 || NR > 10 }'; }
values() { grep -oE "\"$1\": [-+.0-9eE]+" search.json | sed 's/.*: //'; }
check "by rising time, ten at most" rises < <(values step_seconds)
check "all fit" awk '$1 > 0.003 * 2^30 { bad = 1 } END { exit bad || !NR }' < <(values per_rank_bytes)
check "some were tried and did not fit" test "$(number search.json tried)" -gt "$(number search.json fit)"
best() { # KEY...: overrides of the first mesh
    for axis in dp fsdp cp tp ep; do echo "mesh.$axis=$(number search.json $axis)"; done
    echo "train.micro_batch=$(number search.json micro_batch)"
    echo "train.recompute=$(grep -oE '"recompute": "[a-z]+"' search.json | sed -n '1s/.*: "\(.*\)"/\1/p')"
}
"$WEFT" plan "$tiny" --ranks 8 --machine toy.yaml $(best) --json >best.json
check "the best one's memory is its plan's" test "$(number best.json per_rank_bytes)" = "$(number search.json per_rank_bytes)"
check "and so is its time" test "$(number best.json step_seconds)" = "$(number search.json step_seconds)"
expect 0 'layouts tried' "$WEFT" plan "$tiny" "${search[@]}"
expect 2 'the smallest (' "$WEFT" plan "$tiny" "${search[@]}" --memory 0.0018
expect 2 'no mesh of 8 ranks suits' "$WEFT" plan "$tiny" "${search[@]}" --memory 0.0001
expect 2 '--gpus 0' "$WEFT" plan "$tiny" --search
expect 2 '--gpus goes with --search' "$WEFT" plan "$tiny" --gpus 8
expect 2 'ask for one of them' "$WEFT" plan "$tiny" --search --gpus 8 --inference

# ---- weft bench ----
small=(train.global_batch=4 train.seq_len=16 model.num_hidden_layers=2 model.attn_layer_period=2 model.attn_layer_offset=0)
expect 0 '' "$WEFT" bench machine --rounds 1 --device cpu --name 'this one' -o here.yaml
expect 0 'a step on this one' "$WEFT" plan "$tiny" --machine here.yaml
expect 0 'measured: weft bench machine' "$WEFT" plan "$tiny" --machine here.yaml
expect 0 'measured / estimated' "$WEFT" bench step "$tiny" "${small[@]}" --steps 2 --machine here.yaml
expect 0 'all operations' "$WEFT" bench step "$tiny" "${small[@]}" --steps 2 --operations
expect 0 '"median_over_estimated"' "$WEFT" bench step "$tiny" "${small[@]}" --steps 2 --machine here.yaml --operations --json
check "a benchmark leaves nothing behind" test ! -e runs
expect 0 '' mpirun -n 2 "$WEFT" bench machine --rounds 1 --device cpu -o two.yaml
check "two ranks measure the link between them" grep -q '^    gather: [1-9]' two.yaml
expect 0 'collectives of fsdp' "$WEFT" plan "$tiny" --ranks 2 --machine two.yaml
expect 0 'measured / estimated' mpirun -n 2 "$WEFT" bench step "$tiny" "${small[@]}" --steps 2 --machine two.yaml
expect 2 "unknown part 'machines'; did you mean 'machine'?" "$WEFT" bench machines
expect 2 'weft bench: what?' "$WEFT" bench
expect 2 '--device tpu' "$WEFT" bench machine --device tpu
expect 2 '--rounds 0' "$WEFT" bench machine --rounds 0
expect 2 '--steps 0' "$WEFT" bench step "$tiny" --steps 0
expect 0 'usage: weft bench machine' "$WEFT" bench machine --help
expect 0 'usage: weft bench step' "$WEFT" bench step --help
expect 0 'machine' "$WEFT" bench --help
expect 2 'no-such-folder' "$WEFT" bench machine --rounds 1 --device cpu -o no-such-folder/m.yaml
finish
