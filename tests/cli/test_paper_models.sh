# The models of the paper (configs/models): each has the published number of parameters at full width, and at toy width
# trains the losses of one rank on four layouts.
source "$CLI_DIR/lib.sh"
models=$SRC/configs/models
cpu=(device=cpu precision=fp32) # some ask for a GPU

number() { grep -oE "\"$2\": [0-9]+" "$1" | sed -n '1s/.*: //p'; }

# Model, parameters, those active for a token: of the published models the published numbers; of the ablations', of which
# the paper says only 1.3B and 7B, those that the files say. Then the toy: layers, key/value heads, more keys.
table='
jamba-52b               51570323328 12110311296  8 2
llama-2-7b               6738415616  6738415616  2 4
llama-2-70b             68976648192 68976648192  2 2
mistral-7b               7241732096  7241732096  2 2
mixtral-8x7b            46702792704 12879925248  2 2
mamba-2.8b               2768345600  2768345600  2 2 model.ffn_pattern=.. model.intermediate_size=0
1.3b-attention           1320257536  1320257536  2 2
1.3b-attention-moe       5680629760  1320650752  2 2
1.3b-mamba               1325668096  1325668096  2 2
1.3b-mamba-moe           3897693952  1321342720  2 2
1.3b-hybrid-1-3          1324315456  1324315456  4 2
1.3b-hybrid-1-3-moe      4363481920  1324708672  4 2
1.3b-hybrid-1-7          1324991776  1324991776  8 2
1.3b-hybrid-1-7-moe      4170695968  1330103584  8 2
7b-attention             7264800768  7264800768  2 2
7b-attention-moe        32469422080  7278432256  2 2
7b-mamba                 7279227904  7279227904  2 2
7b-mamba-moe            22946001920  7267693568  2 2
7b-hybrid-1-3            7275621120  7275621120  4 2
7b-hybrid-1-3-moe       25433811712  7289252608  4 2
7b-hybrid-1-7            7277424512  7277424512  8 2
7b-hybrid-1-7-moe       24189906816  7278473088  8 2'

# ---- parameters ----

has() { # MODEL TOTAL ACTIVE
    "$WEFT" plan "$models/$1.yaml" "${cpu[@]}" --json >plan.json
    check "$1: $2 parameters, $3 of a token" test "$(number plan.json total) $(number plan.json active)" = "$2 $3"
    case $1 in # what their files say of the sizes
    1.3b-*) check "$1: 1.3 billion, as the others" near "$3" 1324991776 ;;
    7b-*) check "$1: 7 billion, as the others" near "$3" 7277424512 ;;
    esac
}
near() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > 0.995 * b && a < 1.005 * b) }'; }

while read -r model total active rest; do
    [ -n "$model" ] && has "$model" "$total" "$active"
done <<<"$table"
# What the others stand on is no model of the table: NAME-run.yaml and NAME.yaml.
check "every model is in the table" diff <(cd "$models" && ls -- *-*.yaml | sed '/-run\.yaml$/d; s/\.yaml$//' | sort) \
    <(awk 'NF { print $1 }' <<<"$table" | sort)

# ---- ten steps ----

losses() { sed -E 's/.*"step": ([0-9]+), "loss": ([^,]+), "grad_norm": ([^,]+),.*/\1 \2 \3/' "$1/metrics.jsonl"; }
# same_losses RUN RUN: to 1e-5, gradient norms to 1e-4, and the loss changes by more than a hundred times that a step
same_losses() {
    paste -d' ' <(losses "$1") <(losses "$2") | awk '
        function apart(a, b) { d = a - b; return (d < 0 ? -d : d) / b }
        NF != 6 || $1 != $4 || !($5 > 0) || apart($2, $5) > 1e-5 || apart($3, $6) > 1e-4 { print; bad = 1 }
        NR > 1 { change += apart($5, last) / 9 }
        { last = $5 }
        END { exit bad || NR != 10 || !(change > 1e-3) }'
}

toy=("${cpu[@]}" data.path=random model.vocab_size=512 model.hidden_size=64 model.num_attention_heads=4
    train.steps=10 train.global_batch=4 train.micro_batch=1 train.seq_len=16 train.loss_chunk=64 optim.lr=3e-3 optim.warmup=2
    optim.schedule=constant checkpoint.every=0)
trains_the_same() { # MODEL LAYERS KEY/VALUE-HEADS key=value...
    local model=$1 mine=(model.num_hidden_layers="$2" model.num_key_value_heads="$3" model.intermediate_size=96 "${@:4}")
    local layout last=mesh.dp=2\ mesh.fsdp=2 tp=mesh.fsdp=2\ mesh.tp=2
    case $model in # with experts
    *-moe | jamba* | mixtral*) last+=\ mesh.ep=4 tp+=\ mesh.ep=2 mine+=(model.num_experts=4) ;;
    esac
    "$WEFT" train "$models/$model.yaml" run=one "${toy[@]}" "${mine[@]}" >one.log 2>&1 || cat one.log
    for layout in "mesh.fsdp=4" "$tp" "mesh.cp=2 mesh.tp=2" "$last"; do
        # shellcheck disable=SC2086 # a layout is several words
        mpirun -n 4 "$WEFT" train "$models/$model.yaml" run=mesh "${toy[@]}" "${mine[@]}" $layout >mesh.log 2>&1 || cat mesh.log
        check "$model, $layout: ten steps with the losses of one rank" same_losses mesh one
        rm -rf mesh
    done
    rm -rf one
}
while read -r model total active layers heads more; do
    # shellcheck disable=SC2086
    [ -z "$model" ] || trains_the_same "$model" "$layers" "$heads" $more </dev/null
done <<<"$table"
finish
