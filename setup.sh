#!/usr/bin/env bash
# Makes .venv with pinned packages. On a machine without an NVIDIA GPU PyTorch's CPU build is taken:
# the default build of a plain `pip install torch` would bring several GB of CUDA libraries along.
set -euo pipefail
cd "$(dirname "$0")"

TORCH_CPU=2.13.0  # with torchaudio 2.11.0 as pure Python, see sfsrnet_modules/common/torchaudio_cpu.py
TORCH_GPU=2.11.0  # from 2.15 on torchaudio 2.11 is expected to refuse the CUDA version
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || {
    echo "error: $("$python" --version) found, 3.10 to 3.12 needed: make setup PYTHON=python3.12" >&2
    exit 1
}
version() { "$1" -c 'import sys; print(*sys.version_info[:2])' 2>/dev/null; }
made() { .venv/bin/python -m pip --version >/dev/null 2>&1; }  # not one half made
asked_for() { [ -z "${PYTHON:-}" ] || [ "$(version .venv/bin/python)" = "$(version "$python")" ]; }
{ made && asked_for; } || "$python" -m venv --clear .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

echo "PyTorch ..."
if [ "$(uname)" = Linux ] && ! nvidia-smi >/dev/null 2>&1; then
    # pip finds a "+cpu" build only where its indexes hold one; uv knows PyTorch's own
    pip install -q "torch==$TORCH_CPU+cpu" 2>/dev/null || {
        pip install -q uv
        VIRTUAL_ENV=.venv .venv/bin/uv pip install --torch-backend=cpu "torch==$TORCH_CPU"
    }
else
    pip install -q "torch==$TORCH_GPU"
fi

echo "SpeechBrain and the rest ..."
pip install -q -c constraints.txt -e '.[dev]'
pip install -q -c constraints.txt pesq >.venv/pesq.log 2>&1 ||
    echo "Left out: the measure PESQ, whose package needs gcc and Python's headers (.venv/pesq.log)"
.venv/bin/python -c 'import sfsrnet_modules, speechbrain, torch, torchaudio
print(f"Ready: torch {torch.__version__}, torchaudio {torchaudio.__version__}, speechbrain {speechbrain.__version__}")'
