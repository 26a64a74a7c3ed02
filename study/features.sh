#!/usr/bin/env bash
# The study of docs/results.md on features of a pre-trained network: every arm on every seed, at 100 to 1,000
# and at 1,000 to 10,000 labels; then a table and a figure of each.
#
#   study/features.sh NAME IMAGES --features DIR --losses FILE [--seeds "0 1 ... 9"] [--jobs N] [--arms "..."]
#
# NAME         of the data set, in names of files
# IMAGES       train/CLASS/*, test/CLASS/*
# --features   what utils/extract_features.py made of them
# --losses     losses of the rotation task on them, loss/EXP/rotation_loss.txt or the released file (of
#              Tiny-ImageNet, those of a second network are kept: study/features/tiny_losses.txt.gz)
# --jobs       runs side by side (default 1); 0: only tables and figures of what is finished
# --arms       only these of the arms, which are a table in this file (default: all)
#
# Seeds are the outer loop: stopped after a seed, the study is whole. The same command resumes interrupted
# runs; main.py says of a finished one that there is nothing to do, and refuses one of other images or features.
# What is kept of finished runs is study/features/runs.tar.gz. To draw them with others, unpack it first, in the
# project's folder, and give the --seeds or --arms that it lacks.
#
# Written before the runs. Measured is the test accuracy of the last epoch, at the last number of labels and as
# AULC, in differences paired by seed with 95 % t intervals. A seed decides random draws and the order of
# training; features and losses are the same for all seeds.
#   1. PT4AL beats random sampling on features, if in both data sets it is ahead at the last number of labels,
#      and not lower in AULC (intervals that leave out 0; "not lower": the interval reaches above 0).
#   2. The order matters, if PT4AL and PT4AL in random order differ in AULC in both data sets, in one direction.
#   3. PT4AL is no better than margin sampling over the whole pool, if the interval of PT4AL minus margin
#      ends below +1 point at the last number of labels in both data sets.
#   4. Which strategy over the whole pool is best is explored, with p by Holm.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

ARMS='
random           --strategy random --first-pick random --candidates all
margin           --strategy margin --first-pick random --candidates all
entropy          --strategy entropy --first-pick random --candidates all
badge            --strategy badge --first-pick random --candidates all
coreset          --strategy coreset --first-pick random --candidates all
typiclust        --strategy typiclust --first-pick typiclust --candidates all
pt4al            --sort numeric
pt4al-shuffled   --sort shuffled
pt4al-text       --sort lexicographic
pt4al-ascending  --sort ascending
interleaved      --sort interleaved
'

fail() { echo "features.sh: error: $*" >&2; exit 2; }

features='' losses='' seeds='0 1 2 3 4 5 6 7 8 9' jobs=1 arms='' words=()
while [[ $# -gt 0 ]]; do
    case $1 in
        -h | --help) sed -n '2,28s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        --features | --losses | --seeds | --jobs | --arms)
            [[ $# -gt 1 ]] || fail "$1 needs a value"
            case $1 in
                --features) features=$2 ;; --losses) losses=$2 ;; --seeds) seeds=$2 ;;
                --jobs) jobs=$2 ;; --arms) arms=$2 ;;
            esac
            shift 2 ;;
        -*) fail "unknown flag $1 (see --help)" ;;
        *) words+=("$1"); shift ;;
    esac
done
[[ ${#words[@]} -eq 2 ]] || fail "give the data set's NAME and its IMAGES (see --help)"
name=${words[0]} images=${words[1]}
[[ -d $images/train ]] || fail "IMAGES is '$images': it must hold train/CLASS/* and test/CLASS/*"
[[ -f $features/pool.npy ]] || fail "--features is '$features': it must hold pool.npy"
[[ -f $losses ]] || fail "--losses is '$losses': it must be a loss file"
[[ $seeds =~ ^[0-9]+(\ [0-9]+)*$ ]] || fail "--seeds is '$seeds': it must be whole numbers"
[[ $jobs =~ ^[0-9]+$ ]] || fail "--jobs is '$jobs': it must be a whole number"

every=$(awk 'NF { print $1 }' <<<"$ARMS")
for arm in $arms; do
    grep -qx -- "$arm" <<<"$every" || fail "arm '$arm' is unknown: use some of ${every//$'\n'/ }"
done
arms=${arms:-$every}

path() { realpath -s --relative-base="$root" "$1"; }
images=$(path "$images") features=$(path "$features") losses=$(path "$losses")
cd "$root"
source .ci/venv.sh requirements.txt

# cell ARM SEED [FLAG ...]: an arm on a seed, at both budgets; its batches first where it needs any.
cell() {
    local arm=$1 seed=$2 k; shift 2
    local common=(--dataset folder --experiment "features-$name-$arm-seed$seed" --seed "$seed" --threads 1)
    [[ $1 != --sort ]] || python make_batches.py "${common[@]}" --losses "$losses" "$@"
    for k in 100 1000; do
        python main.py "${common[@]}" --data-dir "$images" --features "$features" --labels-per-cycle "$k" \
            --run-name "$arm-$k" "$@"
    done
}

failures=$(mktemp)
trap 'rm -f "$failures"' EXIT
trap 'kill 0' INT TERM
for seed in $seeds; do
    while read -r arm flags; do
        [[ $jobs -gt 0 && -n $arm && " ${arms//$'\n'/ } " == *" $arm "* ]] || continue
        while (($(jobs -rp | wc -l) >= jobs)); do wait -n || true; done
        log=runs/features-$name-$arm-seed$seed.txt
        mkdir -p runs
        # shellcheck disable=SC2086
        (cell "$arm" "$seed" $flags >>"$log" 2>&1 || echo "$arm seed $seed ($log)" >>"$failures") </dev/null &
    done <<<"$ARMS"
done
wait

finished=()
for k in 100 1000; do
    runs=()
    while read -r arm _; do
        for run in runs/features-"$name"-"$arm"-seed[0-9]*/"$arm-$k"; do
            [[ $(wc -l 2>/dev/null <"$run/cycles.csv") -ne 11 ]] || runs+=("$run")
        done
    done <<<"$ARMS"
    [[ ${#runs[@]} -gt 0 ]] || continue
    finished+=("${runs[@]}")
    for baseline in random pt4al; do
        [[ " ${runs[*]} " == *"/$baseline-$k "* ]] || continue
        out=study/features/$name-$k-minus-$baseline.png
        title="$name, linear classifier on features"
        python utils/generate_acc_curves.py "${runs[@]}" --baseline "$baseline-$k" --out "$out" --title "$title"
    done
done

# What is kept of these runs joins what is kept already. The same files make the same archive, byte for byte.
stage=$(mktemp -d)
trap 'rm -rf "$failures" "$stage"' EXIT
kept=study/features/runs.tar.gz
[[ ! -f $kept ]] || tar -xf "$kept" -C "$stage"
for run in "${finished[@]}"; do
    mkdir -p "$stage/$run"
    cp "$run/cycles.csv" "$stage/$run"
    sed 's|"data_dir": ".*"|"data_dir": "IMAGES"|' "$run/config.json" >"$stage/$run/config.json"
done
if [[ -d $stage/runs ]]; then
    (cd "$stage" && find runs -type f | LC_ALL=C sort) >"$stage/names"
    tar --create --format=ustar --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rw,go=r -C "$stage" \
        -T "$stage/names" | gzip -n -9 >"study/features/.runs.$$"
    mv "study/features/.runs.$$" "$kept"
fi
[[ ! -s $failures ]] || fail "failed: $(paste -sd ',' "$failures")"
