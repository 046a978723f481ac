# weft config: show, doc, and what is refused.
. "$CLI_DIR/lib.sh"

# Everything that is shipped is legal, and what `show` prints is a configuration that shows the same.
for file in "$SRC"/configs/*.yaml; do
    name=$(basename "$file" .yaml)
    expect 0 'num_hidden_layers:' "$WEFT" config show "$file"
    "$WEFT" config show "$file" >"$name.1" && "$WEFT" config show "$name.1" >"$name.2"
    check "show of $name reads back" cmp "$name.1" "$name.2"
    "$WEFT" config show --json "$file" >"$name.json1" && "$WEFT" config show "$name.1" --json >"$name.json2"
    check "JSON of $name is the same" cmp "$name.json1" "$name.json2"
done

tiny=$SRC/configs/tiny-hybrid.yaml
expect 0 '  steps: 7' "$WEFT" config show "$tiny" train.steps=7
expect 0 '# mixers        AAAAAAAA' "$WEFT" config show "$tiny" model.attn_layer_period=1 model.attn_layer_offset=0
expect 0 '# feed-forwards DDDDDDDD' "$WEFT" config show "$tiny" model.num_experts=1
expect 0 '"steps": 50' "$WEFT" config show "$tiny" --json

# Overrides that other programs use.
expect 0 'seed: 9' "$WEFT" config show "$tiny" run=out data.path=random train.steps=20 train.global_batch=4 \
    train.seq_len=32 seed=9 device=cpu checkpoint.every=5 resume=never

expect 2 "command line: unknown key 'train.step'; did you mean 'train.steps'?" "$WEFT" config show "$tiny" train.step=3
expect 2 "command line: 'nonsense' is not key=value" "$WEFT" config show "$tiny" nonsense
expect 2 'cannot open the configuration absent.yaml' "$WEFT" config show absent.yaml
expect 2 'model.hidden_size 64 is not a multiple of model.num_attention_heads 7' \
    "$WEFT" config show "$tiny" model.num_attention_heads=7 model.num_key_value_heads=1
expect 2 "symbol 'X' at position 2" "$WEFT" config show "$tiny" model.mixer_pattern=MXMMAMMM

printf 'include: %s\ntrain:\n  stepz: 3\n' "$tiny" >bad.yaml
expect 2 "bad.yaml:3:3: unknown key 'train.stepz'; did you mean 'train.steps'?" "$WEFT" config show bad.yaml
printf 'include: %s\ntrain:\n  seq_len: 48\n' "$tiny" >variant.yaml
expect 0 '  seq_len: 48' "$WEFT" config show variant.yaml
expect 0 '  hidden_size: 64' "$WEFT" config show variant.yaml
printf 'include: loop.yaml\n' >loop.yaml
expect 2 'loop.yaml:1:10: loop.yaml is already being read' "$WEFT" config show loop.yaml

# The command line itself.
expect 0 '`model.hidden_size`: integer, from 1 to' "$WEFT" config doc
expect 0 'usage: weft config show' "$WEFT" config --help
expect 0 'usage: weft config show [options] CONFIG.yaml' "$WEFT" config show --help
expect 2 'say what' "$WEFT" config
expect 2 "unknown 'shw'; did you mean 'show'?" "$WEFT" config shw
expect 2 'an argument is missing; usage: weft config show CONFIG.yaml' "$WEFT" config show
expect 2 "unknown option '--jsn'; did you mean '--json'?" "$WEFT" config show "$tiny" --jsn
expect 2 '--json takes no value' "$WEFT" config show "$tiny" --json=yes
expect 2 "unexpected argument 'more'" "$WEFT" config doc more
# shellcheck disable=SC2016 # $1 is the inner shell's
expect 2 'cannot write the output' bash -c '"$1" config doc >/dev/full' sh "$WEFT"
finish
