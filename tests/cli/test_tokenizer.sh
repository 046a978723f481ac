# weft tokenizer train, encode, decode
source "$CLI_DIR/lib.sh"

for i in $(seq 400); do
    echo "Line $i: the weft is carried across the warp, $((i * i)) times; naïve Größe."
    echo "    if (x_$i == $((i % 7))) {  return -- x;  }"
done >text.txt
printf '{"text": "the second file has a document", "domain": "web"}\n{"text": "and\\nanother"}\n' >more.jsonl

expect 0 'usage: weft tokenizer train' "$WEFT" tokenizer train --help
expect 0 'weft tokenizer decode' "$WEFT" tokenizer --help
expect 0 '400 tokens in tok' "$WEFT" tokenizer train --vocab 400 -o tok text.txt more.jsonl
check 'four files' test -s tok/tokenizer.model -a -s tok/tokenizer.json -a -s tok/tokenizer_config.json -a -s tok/special_tokens_map.json
expect 0 '' "$WEFT" tokenizer train --vocab 400 -o again more.jsonl text.txt
check 'the same model again' cmp tok/tokenizer.model again/tokenizer.model

# Round trips, byte for byte: a directory and a model file are both a tokenizer.
printf '  two  spaces\n\n\ttab, 1234, \303\245 \342\226\201 \360\237\230\200 \377 <|endoftext|> no newline' >nasty
round_trip() { "$WEFT" tokenizer encode "$1" "$2" | "$WEFT" tokenizer decode "$1" | cmp - "$2"; }
check 'round trip of a file' round_trip tok text.txt
check 'round trip of nasty bytes' round_trip tok/tokenizer.model nasty
"$WEFT" tokenizer encode tok - <nasty >ids
check 'standard input' cmp ids <("$WEFT" tokenizer encode tok nasty)
check 'one line of ids' test "$(wc -l <ids)" -eq 1
check 'no special token from text' bash -c '! grep -qwE "[0-3]" ids'

expect 0 '1 72 2' "$WEFT" tokenizer encode tok --text D --bos --eos
check 'an empty text has no ids' test -z "$("$WEFT" tokenizer encode tok --text=)"
expect 0 '{"tokens": 6, "bytes": 4, "ids": [1, ' "$WEFT" tokenizer encode tok --text 1234 --json --bos --eos
check 'ids as arguments' test "$("$WEFT" tokenizer decode tok 1 $("$WEFT" tokenizer encode tok --text 'the warp') 2)" = 'the warp'

expect 2 'exists already' "$WEFT" tokenizer train --vocab 400 -o tok text.txt
expect 2 'choose at most' "$WEFT" tokenizer train --vocab 100000 -o x text.txt
expect 2 'choose at least' "$WEFT" tokenizer train --vocab 262 -o x text.txt
expect 2 'must lie between' "$WEFT" tokenizer train --vocab 10 -o x text.txt
expect 2 '--vocab N is missing' "$WEFT" tokenizer train -o x text.txt
expect 2 '-o DIR is missing' "$WEFT" tokenizer train --vocab 400 text.txt
expect 2 'argument is missing' "$WEFT" tokenizer train --vocab 400 -o x
expect 2 'nothere.txt' "$WEFT" tokenizer train --vocab 400 -o x nothere.txt
: >empty.txt
expect 2 'no text' "$WEFT" tokenizer train --vocab 400 -o x empty.txt
expect 2 'cannot be made in' "$WEFT" tokenizer train --vocab 400 -o no/x text.txt
check 'nothing left of what failed' test -z "$(ls -d x* 2>/dev/null)"
expect 2 'not a SentencePiece model' "$WEFT" tokenizer encode text.txt --text a
expect 2 'nothere' "$WEFT" tokenizer encode nothere --text a
expect 2 'both given' "$WEFT" tokenizer encode tok text.txt --text a
expect 2 'outside the tokenizer' "$WEFT" tokenizer decode tok 5 400
expect 2 "'x7' is no token id" "$WEFT" tokenizer decode tok x7
expect 2 "did you mean 'encode'" "$WEFT" tokenizer encod
expect 2 'say what' "$WEFT" tokenizer
if [ -w /dev/full ]; then
    expect 2 'cannot write the output' bash -c '"$0" tokenizer encode tok text.txt >/dev/full' "$WEFT"
fi
finish
