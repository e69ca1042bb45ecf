#!/usr/bin/env bash
# The model that comes along, trained further in rooms, with noise and single voices, on one GPU
# (or none) and in a given time, off line. From the project's folder, in its environment:
#   recipes/one_gpu.sh SPEECH NOISE MINUTES OUTPUT [--key value ...]
# Measures the step, then trains as much as fits. Leaves OUTPUT/plan.md, OUTPUT/train_log.txt and,
# with its card, OUTPUT/model. The same command goes on where it was, in another time if need be.
# Other options are train.py's.
set -euo pipefail
if (($# < 4)); then
    echo "usage: recipes/one_gpu.sh SPEECH NOISE MINUTES OUTPUT [--key value ...]" >&2
    exit 2
fi
speech=$1 noise=$2 minutes=$3 output=$4
if [[ ! $minutes =~ ^[1-9][0-9]*$ ]]; then
    echo "error: MINUTES is $minutes: give a whole number above 0" >&2
    exit 2
fi
options=(--data_folder "$speech" --noise_folder "$noise" --output_folder "$output" "${@:5}")
EXPORT=30 # s, kept for the export where the time ends the training
AGAIN=75  # exit code of train.py that was told to stop: everything is saved, run it again

# Add an option, unless the caller gave it.
default() {
    case " ${options[*]} " in
    *" --$1 "* | *" --$1="*) ;;
    *) options+=("--$1" "$2") ;;
    esac
}

default start_from sfsrnet_modules/pretrained/sfsrnet-small-8k # null: new weights, with --lr 0.0015
default lr 0.001 # of weights that are trained already, with batches of 64
default fewer_voices "{1: 0.06, 0: 0.01}"
default pause_share 0.15
default noise_kinds "[recordings, babble, coloured]"
default num_test 10 # mixtures of each source; evaluate.py scores more of them, whenever there is time

mkdir -p "$output"
call=$(printf '%q ' "$speech" "$noise" "${@:5}")
if [ -f "$output/call.txt" ] && [ "$call" != "$(cat "$output/call.txt")" ]; then
    echo "error: $output was begun with $(cat "$output/call.txt"), not with $call: give the same" \
        "speech, noise and options, or another OUTPUT" >&2
    exit 2
fi
if [ ! -f "$output/plan.md" ]; then
    python -m benchmarks.plan hparams/shipped.yaml --minutes "$minutes" \
        --output "$output/plan.md" "${options[@]}"
    printf '%s' "$call" >"$output/call.txt"
fi
training=$(tail -n 1 "$output/plan.md")
code=0
timeout --preserve-status "$((minutes * 60 - SECONDS - EXPORT))" bash -c "exec $training" || code=$?
if ((code == AGAIN)); then
    python export.py "$output" -o "$output/model" || true # no epoch ended
    echo "The time is over: the same command goes on"
fi
exit "$code"
