# Sourced by run.sh and test.sh: enter .venv, made when there is none, with what the file $1 asks for.
venv=$root/.venv
if [[ ! -x $venv/bin/python ]]; then
    echo "making $venv"
    "${PYTHON:-python3}" -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$root/$1"
export PATH=$venv/bin:$PATH
