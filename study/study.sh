#!/usr/bin/env bash
# The study of docs/results.md: every arm on every seed, then its figures, CSV files and tables.
#
#   study/study.sh IMAGES --losses FILE [--seeds "0 1 2 3 4"] [--jobs N] [--arms "..."]
#                  [--pretext-images FOLDER] [-- --field value ...]
#
# IMAGES             train/CLASS/*, test/CLASS/*
# FILE               the released code's loss file for them
# --jobs             runs side by side, which share the processor's cores (default 1); 0: only the figures,
#                    CSV files and tables of what is finished
# --arms             only these of the arms, which are a table in this file (default: all)
# --pretext-images   the same images with shortcuts removed: needed by own-pretext and cold-typiclust, until
#                    runs/study-pretext/kept is there
# after --           fields as in config.py, for all runs: a shorter schedule to try it; none of the arms' own
#
# Seeds are the outer loop: stopped after a seed, the study is whole. The same command skips finished runs and
# resumes interrupted ones. Several machines that share this folder take an arm each, as the tasks of a Slurm
# array do (docs/running.md). What is kept of finished runs is study/runs.tar.gz. To resume from it, unpack it
# in the project's folder: tar -xf study/runs.tar.gz
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# `seeds`: on how many of the seeds an arm runs; `later`: on all but the first, which had been used to
# choose the arm. An arm begins with its batches, if it needs any. Arms named cold-* are main_pt4al.py.
ARMS='
name             cycles  seeds  flags
random           10      all    --strategy random --first-pick random --candidates all
pt4al            10      all
margin           10      all    --strategy margin --first-pick random --candidates all
pt4al-shuffled   10      all    --sort shuffled
pt4al-text       10      all    --sort lexicographic
pt4al-ascending  10      all    --sort ascending
interleaved      5       later  --sort interleaved
normalized       5       3      --strategy normalized_confidence
warm             5       3      --init warm
entropy          5       3      --strategy entropy --first-pick random --candidates all
coreset          5       3      --strategy coreset --first-pick random --candidates all
badge            5       3      --strategy badge --first-pick random --candidates all
cold-0           1       all
cold-2           1       all    --cold-start-batch 2
cold-5           1       all    --cold-start-batch 5
cold-9           1       all    --cold-start-batch 9
cold-0-text      1       all    --sort lexicographic
cold-5-text      1       all    --cold-start-batch 5 --sort lexicographic
cold-random      1       all    --first-pick random
cold-mix         1       all
cold-balanced    1       all
cold-typiclust   1       all
pt4al-again      5       1
own-pretext      10      1
'

# The arms in the legends of the figures.
LEGENDS='
random           random sampling
pt4al            PT4AL
margin           margin sampling, whole pool
pt4al-shuffled   PT4AL, random order
pt4al-text       PT4AL, lexicographic sort
pt4al-ascending  PT4AL, easiest first
interleaved      PT4AL, interleaved batches
normalized       PT4AL, normalized confidence
warm             PT4AL, warm start
entropy          entropy, whole pool
coreset          k-center (coreset), whole pool
badge            BADGE, whole pool
cold-0           PT4AL: batch 0, the hardest
cold-2           batch 2
cold-5           batch 5
cold-9           batch 9, the easiest
cold-0-text      batch 0, lexicographic sort
cold-5-text      batch 5, lexicographic sort
cold-random      random sampling
cold-mix         random, classes as in batch 0
cold-balanced    hardest, classes balanced
cold-typiclust   TypiClust
pt4al-again      PT4AL, run again
own-pretext      PT4AL, our own pretext network
'

fail() { echo "study.sh: error: $*" >&2; exit 2; }

images='' losses='' seeds='0 1 2 3 4' jobs=1 arms='' treated=''
while [[ $# -gt 0 ]]; do
    case $1 in
        -h | --help) sed -n '2,20s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        --) shift; break ;;
        --losses | --seeds | --jobs | --arms | --pretext-images)
            [[ $# -gt 1 ]] || fail "$1 needs a value"
            case $1 in
                --losses) losses=$2 ;; --seeds) seeds=$2 ;; --jobs) jobs=$2 ;;
                --arms) arms=$2 ;; --pretext-images) treated=$2 ;;
            esac
            shift 2 ;;
        -*) fail "unknown flag $1 (see --help)" ;;
        *) [[ -z $images ]] || fail "one folder of images, please: $images or $1?"; images=$1; shift ;;
    esac
done
fields=("$@")
# What the arms differ by, and what this file itself gives.
fixed=' strategy candidates first-pick sort init cold-start-batch cycles seed experiment run-name dataset'
fixed+=' data-dir losses '
for field in ${fields[@]+"${fields[@]}"}; do
    name=${field#--} name=${name%%=*} name=${name//_/-}
    [[ $field != --* || $fixed != *" $name "* ]] ||
        fail "$field after -- would change what an arm is under the arm's name: change ARMS in study.sh"
done
[[ -d $images/train ]] || fail "IMAGES is '$images': it must hold train/CLASS/* and test/CLASS/* (see --help)"
[[ -f $losses ]] || fail "--losses is '$losses': it must be a loss file"
[[ -z $treated || -d $treated/train ]] || fail "--pretext-images is '$treated': it must hold train/CLASS/*"
[[ $seeds =~ ^(0|[1-9][0-9]*)(\ (0|[1-9][0-9]*))*$ && -z $(tr ' ' '\n' <<<"$seeds" | sort | uniq -d) ]] ||
    fail "--seeds is '$seeds': it must be whole numbers, each once and without leading zeros"
[[ $jobs =~ ^(0|[1-9][0-9]*)$ ]] || fail "--jobs is '$jobs': it must be a whole number"
every=$(awk 'NF > 2 && $1 != "name" { print $1 }' <<<"$ARMS")
for arm in $arms; do
    grep -qx -- "$arm" <<<"$every" || fail "arm '$arm' is unknown: use some of ${every//$'\n'/ }"
done
arms=${arms:-$every}

path() { realpath -s --relative-base="$root" "$1"; }
images=$(path "$images") losses=$(path "$losses") treated=${treated:+$(path "$treated")}
cd "$root"
source .ci/venv.sh requirements.txt
cores=$(nproc) threads=1
((jobs > 0 && jobs < cores)) && threads=$((cores / jobs))
preset=(cifar10-cpu --dataset folder --threads "$threads")
! command -v nvidia-smi >/dev/null || preset+=(--deterministic) # and on every GPU of a kind
# The preset's schedule leaves classifiers half trained, those of hard images most of all (study/REPORT.md):
# small batches, and twice the epochs.
recipe=(--batch-size 32 --lr 0.01 --epochs 32 --milestones 26 --min-epoch-images 4000)
recipe+=(${fields[@]+"${fields[@]}"})

# Our own pretext network of the first seed on images with shortcuts removed, its losses, and what typiclust
# picks by it: as a batch file, since the weights are of other images than the study's. Where what is kept
# has been unpacked no network is needed.
kept=runs/study-pretext/kept
pretext() {
    local common=("${preset[@]}" ${fields[@]+"${fields[@]}"} --data-dir "$treated" --experiment study-pretext)
    common+=(--seed "${seeds%% *}")
    python rotation.py "${common[@]}"
    python make_batches.py "${common[@]}"
    python main_pt4al.py "${common[@]}" --first-pick typiclust --run-name picks --epochs 1 --milestones 1
    local new=runs/study-pretext/.kept
    rm -rf "$new"
    mkdir "$new"
    cp runs/study-pretext/rotation/{config.json,metrics.csv} loss/study-pretext/rotation_loss.txt "$new"
    cp runs/study-pretext/picks/labeled/cycle_0.txt "$new/picks.txt"
    mv "$new" "$kept"
}

# The one batch of an arm whose images are all labeled. `cold-typiclust`: what the pretext network picks.
# PT4AL's first pick taken apart: `cold-mix`, its class counts, of random images; `cold-balanced`, the
# hardest as it takes them, but of each class by itself, and as many of each.
one_batch() {  # ARM EXPERIMENT
    local picks=runs/$2-order/picks/labeled/cycle_0.txt classes all
    mkdir -p "loss/$2"
    if [[ $1 == cold-typiclust ]]; then
        cp "$kept/picks.txt" "loss/$2/batch_0.txt"
        return
    fi
    python make_batches.py "${common[@]}" --experiment "$2-order" --losses "$losses"
    python main_pt4al.py "${common[@]}" --experiment "$2-order" --data-dir "$images" --run-name picks \
        --epochs 1 --milestones 1
    if [[ $1 == cold-mix ]]; then
        python make_batches.py "${common[@]}" --experiment "$2-random" --losses "$losses" --sort shuffled
        awk -F/ 'NR == FNR { wanted[$(NF - 1)]++; next } taken[$(NF - 1)]++ < wanted[$(NF - 1)]' \
            "$picks" "loss/$2-random/"batch_?.txt >"loss/$2/batch_0.txt"
    else
        classes=$(ls -d "$images"/train/*/ | wc -l) all=$(wc -l <"loss/$2-order/batch_0.txt")
        awk -F/ -v all="$all" -v k="$(wc -l <"$picks")" -v classes="$classes" '
            rank[$(NF - 1)]++ % int(all / k) == 0 && taken[$(NF - 1)] < k / classes && n < k {
                taken[$(NF - 1)]++; n++; print
            }' "loss/$2-order/"batch_?.txt >"loss/$2/batch_0.txt"
    fi
}

# cell ARM SEED CYCLES [FLAG ...]: an arm on a seed, its batches first where it needs any.
cell() {
    local arm=$1 seed=$2 cycles=$3 experiment=study-$1-seed$2 order=$losses; shift 3
    # Runs are compared seed by seed, and those of a seed are of one precision, but for interleaved. bf16 is
    # faster where the processor has it; cold-* and the first two seeds were begun where it has not, and
    # interleaved, the last arm, ran there too.
    local precision=bf16
    [[ $arm != cold-* && $arm != interleaved && $seed -gt 1 ]] || precision=float32
    local common=("${preset[@]}" --precision "$precision" "${recipe[@]}")
    common+=(--experiment "$experiment" --seed "$seed")
    local run=("${common[@]}" --data-dir "$images" --run-name "$arm" "$@")
    [[ $arm != own-pretext ]] || order=$kept/rotation_loss.txt
    if [[ $arm == cold-@(typiclust|mix|balanced) ]]; then
        one_batch "$arm" "$experiment"
        run+=(--num-batches 1 --labels-per-cycle "$(wc -l <"loss/$experiment/batch_0.txt")")
    elif [[ "$*" != *"--first-pick random"* ]]; then
        python make_batches.py "${common[@]}" --losses "$order" "$@"
    fi
    if [[ $arm == cold-* ]]; then python main_pt4al.py "${run[@]}"
    else python main.py "${run[@]}" --cycles "$cycles"; fi
}

# Whether an arm on a seed has all rows of its table.
is_done() {
    [[ $(wc -l 2>/dev/null <"runs/study-$1-seed$2/$1/cycles.csv") -eq $(($3 + 1)) ]]
}

report() {  # STATUS ARM SEED
    local run
    run="$(date +%H:%M) $2 seed $3"
    if (($1 == 0)); then echo "$run: done"
    elif (($1 > 128)); then echo "$run: stopped, resumes next time"
    else echo "$run: FAILED, see runs/study-$2-seed$3/log.txt" | tee -a "$failures" >&2; fi
}

# Finished runs are skipped unseen, so they must be of the same study.
made_for="images $(cd "$images" && find -L train test -type f | LC_ALL=C sort | sha256sum | cut -c1-64)
losses $(sha256sum <"$losses" | cut -c1-64)
fields ${recipe[*]}"
mkdir -p runs
if [[ ! -f runs/study.txt && -z $(compgen -G 'runs/study-*') ]]; then
    echo "$made_for" >"runs/.study.$$"
    mv "runs/.study.$$" runs/study.txt
fi
[[ $(cat runs/study.txt 2>/dev/null) == "$made_for" ]] ||
    fail "runs/study-* are of other images, losses or fields (runs/study.txt):" \
        "move away {runs,checkpoint,loss}/study*"

failures=$(mktemp)
trap 'rm -rf "$failures" ${stage:+"$stage"}' EXIT
set -m # each job is a process group
stop() {
    for job in $(jobs -rp); do kill -- "-$job"; done
    wait
    exit 143
}
trap stop INT TERM HUP
needs_pretext='@(own-pretext|cold-typiclust)'
if [[ $jobs -gt 0 && -n $treated && ! -d $kept && $arms == *$needs_pretext* ]]; then
    (trap : INT TERM HUP; pretext) </dev/null &
    wait $!
elif [[ $jobs -gt 0 && -d $kept && $arms == *$needs_pretext* ]]; then # whatever images and seed it is of
    echo "own-pretext, cold-typiclust: losses and picks are those of $kept;" \
        "for others move away {runs,checkpoint,loss}/study-pretext"
fi
number=0
for seed in $seeds; do
    while read -r arm cycles most flags; do
        [[ $jobs -gt 0 && " ${arms//$'\n'/ } " == *" $arm "* ]] || continue
        case $most in
            all) ;;
            later) ((number > 0)) || continue ;;
            *) ((number < most)) || continue ;;
        esac
        if [[ -z $treated && ! -d $kept && $arm == $needs_pretext ]]; then
            echo "$arm seed $seed: left out, it needs --pretext-images"
            continue
        fi
        ! is_done "$arm" "$seed" "$cycles" || continue
        while (($(jobs -rp | wc -l) >= jobs)); do wait -n || true; done
        mkdir -p "runs/study-$arm-seed$seed"
        # shellcheck disable=SC2086
        (
            trap 'report $? "$arm" "$seed"' EXIT
            trap : INT TERM HUP # until its script has saved and ended
            cell "$arm" "$seed" "$cycles" $flags >>"runs/study-$arm-seed$seed/log.txt" 2>&1
        ) </dev/null &
    done < <(tail -n +3 <<<"$ARMS")
    number=$((number + 1))
done
wait

# figure NAME BASELINE TITLE ARM ...: what there is of these arms in $table, minus the baseline; curves
# alone where the baseline is -.
figure() {
    local name=$1 baseline=$2 title=$3 found=() flags=() arm legend; shift 3
    [[ -f $table ]] || return 0
    for arm in "$@"; do ! grep -q "^$arm," "$table" || found+=("$arm"); done
    [[ ${#found[@]} -gt 0 ]] || return 0
    if [[ $baseline != - ]]; then
        grep -q "^$baseline," "$table" || return 0
        flags=(--baseline "$baseline")
    fi
    while read -r arm legend; do
        [[ " ${found[*]} $baseline " != *" $arm "* ]] || flags+=(--label "$arm=$legend")
    done < <(tail -n +2 <<<"$LEGENDS")
    echo; echo "== $title"
    python utils/generate_acc_curves.py "$table" --methods "${found[@]}" "${flags[@]}" \
        --out "$out/figures/$name.png" --title "$title"
}

# How many images of each class the first cycle of every run has labeled; of a run without its lists the
# line that KNOWN has.
first_picks() {  # KNOWN RUN ...
    local known=$1 classes run arm_and_seed; shift
    classes=$(ls "$images/train" | paste -sd,)
    echo "method,seed,$classes"
    for run in "$@"; do
        arm_and_seed=$(sed -E 's|.*-seed([0-9]+)/(.*)|\2,\1|' <<<"$run")
        if [[ ! -d $run/labeled ]]; then
            grep "^$arm_and_seed," "$known" || fail "neither $run/labeled nor $known has what $run took first"
            continue
        fi
        awk -F/ -v head="$arm_and_seed" -v classes="$classes" '
            { count[$(NF - 1)]++ }
            END {
                n = split(classes, name, ",")
                for (i = 1; i <= n; i++) head = head "," count[name[i]] + 0
                print head
            }
        ' "$run/labeled/cycle_0.txt"
    done
}

# Training accuracy of the last epoch of each cycle.
training() {  # RUN
    awk -F, '
        $1 != cycle && NR > 1 { print kept }
        { cycle = $1; kept = $2 "," $6 }
        END { print kept }
    ' "$1/metrics.csv"
}

# What is kept of finished runs joins what is kept already. The same files make the same archive, byte for
# byte.
keep() {  # RUN ...
    local run
    stage=$(mktemp -d)
    [[ ! -f $out/runs.tar.gz ]] || tar -xf "$out/runs.tar.gz" -C "$stage"
    for run in "$@"; do
        mkdir -p "$stage/$run"
        cp "$run"/{config.json,cycles.csv} "$stage/$run"
        if [[ -f $run/metrics.csv ]]; then training "$run" >"$stage/$run/training.csv"
        elif [[ -f $run/training.csv ]]; then cp "$run/training.csv" "$stage/$run"; fi
    done
    cp runs/study.txt "$stage/runs"
    if [[ -d $kept ]]; then
        mkdir -p "$stage/$kept"
        cp "$kept"/* "$stage/$kept"
    fi
    (cd "$stage" && find runs -type f | LC_ALL=C sort) >"$stage/names"
    tar --create --format=ustar --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rw,go=r -C "$stage" \
        -T "$stage/names" | gzip -n -9 >"$out/.runs.$$"
    mv "$out/.runs.$$" "$out/runs.tar.gz"
}

out=study
[[ ${#fields[@]} -eq 0 ]] || out=figures/study # a shorter schedule is no result
finished=()
while read -r arm cycles _; do
    for seed in $seeds; do
        ! is_done "$arm" "$seed" "$cycles" || finished+=("runs/study-$arm-seed$seed/$arm")
    done
done < <(tail -n +3 <<<"$ARMS")
if [[ ${#finished[@]} -gt 0 ]]; then
    python utils/generate_acc_curves.py "${finished[@]}" --out "$out/study.csv"
    first_picks "$out/first_picks.csv" "${finished[@]}" >"$out/.picks.$$"
    mv "$out/.picks.$$" "$out/first_picks.csv"
    keep "${finished[@]}"
    table=$out/study.csv
    figure cifar10 - "CIFAR-10, ResNet-18 of width 16" \
        random margin pt4al-text pt4al
    figure primary random "PT4AL and its controls, minus random sampling" \
        pt4al pt4al-text pt4al-shuffled pt4al-ascending margin
    figure order pt4al "orders and margin sampling, minus PT4AL" \
        pt4al-text pt4al-shuffled pt4al-ascending interleaved margin own-pretext pt4al-again
    ! grep -q "^interleaved," "$table" ||
        figure interleaved random "batches that span all losses, minus random sampling" \
            interleaved pt4al pt4al-shuffled margin
    figure settings pt4al "settings of the released code, minus PT4AL" normalized warm
    figure whole_pool margin "strategies over the whole pool, minus margin sampling" entropy coreset badge
    figure cold_start cold-random "the first 1,000 labels, chosen without any label" \
        cold-0 cold-2 cold-5 cold-9 cold-0-text cold-5-text cold-mix cold-balanced cold-typiclust
    table=$out/paper_schedule.csv
    figure paper_schedule random "the paper's width and schedule, minus random sampling" \
        pt4al pt4al-shuffled margin
    figure paper_schedule_order pt4al "the paper's width and schedule, minus PT4AL" pt4al-shuffled margin
fi
if [[ -s $failures ]]; then fail "failed: $(cut -d' ' -f2-4 "$failures" | tr '\n' ' ')"; fi
