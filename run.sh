#!/usr/bin/env bash
# All of PT4AL from nothing: .venv, requirements, every step with its random baseline, the figures.
#
#   ./run.sh [PRESET] [--seeds N] [--experiment NAME] [--field value ...]
#
# PRESET is digits by default, N 1; fields as in config.py. With other fields than last time give a NAME: each seed has
# the folder NAME-seed0, NAME-seed1, ...
#
# A run that was interrupted goes on where it stopped when the same command is given again.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

preset=digits seeds=1 name='' fields=()
if [[ $# -gt 0 && $1 != -* ]]; then preset=$1; shift; fi
while [[ $# -gt 0 ]]; do
    flag=${1%%=*}
    case ${flag//_/-} in
        --seeds)
            if [[ $1 == *=* ]]; then seeds=${1#*=}; shift; else seeds=${2:-}; shift $(($# > 1 ? 2 : 1)); fi ;;
        --experiment)
            if [[ $1 == *=* ]]; then name=${1#*=}; shift; else name=${2:-}; shift $(($# > 1 ? 2 : 1)); fi
            [[ -n $name ]] || { echo "run.sh: error: --experiment needs a name" >&2; exit 2; } ;;
        --seed | --run-name | --first-pick | --candidates | --losses)
            echo "run.sh: error: $flag is set by run.sh itself, or would make two of its runs one; use --seeds N, or the scripts" >&2
            exit 2 ;;
        -h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) fields+=("$1"); shift ;;
    esac
done
[[ $seeds =~ ^[1-9][0-9]{0,3}$ ]] || { echo "run.sh: error: --seeds is '$seeds': it must be 1 to 9999" >&2; exit 2; }
if [[ " ${fields[*]-} " =~ \ --strategy[\ =]random\  ]]; then
    echo "run.sh: error: --strategy random is the baseline, which runs anyway" >&2; exit 2
fi

source "$root/.ci/venv.sh" requirements.txt

step() { echo; echo "== $*"; python "$root/$1" "${@:2}"; }
baseline=(--strategy random --first-pick random --candidates all)
runs=()
for ((seed = 0; seed < seeds; seed++)); do
    arguments=("$preset" --seed "$seed" ${name:+--experiment "$name-seed$seed"} ${fields[@]+"${fields[@]}"})
    step rotation.py "${arguments[@]}"
    step make_batches.py "${arguments[@]}"
    step main.py "${arguments[@]}"
    step main.py "${arguments[@]}" "${baseline[@]}"
    step main_pt4al.py "${arguments[@]}"
    step main_pt4al.py "${arguments[@]}" --first-pick random
    step whole_dataset.py "${arguments[@]}"
    { read -r experiment; read -r strategy; } < <(PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} python -c '
from pt4al.run.command_line import from_command_line
config = from_command_line("")
print(config.experiment_name, config.strategy, sep="\n")' "${arguments[@]}")
    for run in "main-$strategy" main-random cold-start-interval cold-start-random whole-dataset; do
        runs+=("runs/$experiment/$run")
    done
done

step utils/show_batches.py "${arguments[@]}"
step utils/plot_curves.py "runs/$experiment/main-$strategy"
step utils/generate_acc_curves.py "${runs[@]}" --baseline main-random --out "figures/${name:-$preset}.png" --title "${name:-$preset}, seeds: $seeds"
