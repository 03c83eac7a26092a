#!/usr/bin/env bash
# The whole way of a base on the embedded genome: build shards, pretrain, make splice-site examples, fine-tune from
# pretrained and from random params, predict, and print a table. Called by `make demo`; takes the folder to work in.
set -euo pipefail
cd "$(dirname "$0")/.."
demo=${1:-demo}
genome=dnabert_jax/embedded/chr20_slice

# Large arrays come from huge pages, which saves page faults on many machines (glibc 2.35 and later).
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}

say() { printf '\n== %s\n' "$*"; }

if [ -e "$demo" ] && [ ! -e "$demo/.made-by-demo" ]; then
  echo "error: $demo exists and was not made by the demo; expected another folder: make demo DEMO=folder" >&2
  exit 2
fi
rm -rf "$demo"
mkdir -p "$demo"
touch "$demo/.made-by-demo"

say "Building shards from 4,194,304 bases of human chromosome 20; the last tenth is held out"
dnabert build --fasta "$genome.fa.gz" --out "$demo/genome" --assembly "GRCh37 chr20:30000001-34194304" \
  --validation 20:3774874-4194304

say "Pretraining a small DNABERT"
python train.py demo --workdir "$demo/pretrained" --data.path "$demo/genome"

say "Making splice-site examples from RefSeq exons"
dnabert task splice --fasta "$genome.fa.gz" --gtf "$genome.gtf.gz" --out "$demo/splice" --window 200 --negatives decoy

labels=(--data.train "$demo/splice/train.tsv" --data.validation "$demo/splice/validation.tsv"
  --data.test "$demo/splice/test.tsv")
say "Fine-tuning on splice sites from the pretrained params"
python finetune.py demo_splice --workdir "$demo/splice-pretrained" --init "$demo/pretrained" "${labels[@]}"

say "The same from random params"
python finetune.py demo_splice --workdir "$demo/splice-random" --init "$demo/pretrained" --random_params True "${labels[@]}"

say "Predicting"
dnabert predict --model "$demo/splice-pretrained" --input "$demo/splice/test.tsv" --output "$demo/predictions.tsv"
head -4 "$demo/predictions.tsv"

say "What came out"
python examples/demo_table.py "$demo"
