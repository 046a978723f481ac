# A sequence of 131,072 tokens over two cp ranks trains as on one rank.
source "$CLI_DIR/lib.sh"

# Large initial weights and a large first step: the loss depends on every layer.
cat >model.yaml <<'TEXT'
model:
  vocab_size: 512
  hidden_size: 64
  intermediate_size: 128
  num_hidden_layers: 4
  mixer_pattern: MMAM
  ffn_pattern: D.E.
  num_attention_heads: 2
  num_key_value_heads: 2
  num_experts: 4
  initializer_range: 0.1
data:
  path: random
train:
  steps: 2
  seq_len: 131072
  global_batch: 1
  micro_batch: 1
optim:
  lr: 0.01
  warmup: 1
checkpoint:
  every: 0
TEXT
values() { sed -E 's/.*"step": ([0-9]+), "loss": ([^,]+), "grad_norm": ([^,]+),.*/\1 \2 \3/' "$1/metrics.jsonl"; }
same() {
    paste -d' ' <(values cp2) <(values one) | awk '
        function apart(a, b) { d = a - b; return (d < 0 ? -d : d) / b }
        NF != 6 || $1 != $4 || !($5 > 0) { print; bad = 1; next }
        { printf "step %d: loss %s and %s, %.1e apart; gradient norm %s and %s, %.1e apart\n", $1, $2, $5, apart($2, $5), $3, $6, apart($3, $6) }
        apart($2, $5) > 1e-5 || apart($3, $6) > 1e-4 { bad = 1 }
        END { exit bad || NR != 2 }'
}

OMP_NUM_THREADS=2 expect 0 "done: step 2" "$WEFT" train model.yaml run=one
echo "$SECONDS s"
OMP_NUM_THREADS=1 expect 0 "done: step 2" mpirun -n 2 "$WEFT" train model.yaml run=cp2 mesh.cp=2
echo "$SECONDS s"
check "the losses and gradient norms of one rank" same
finish
