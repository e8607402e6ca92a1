#!/usr/bin/env bash
# What this folder holds beside this file and README.md, made anew in /tmp/hybatch-0.1.0 by the code of commit 54339c1:
# run it with that commit installed. The folder's name and the files' times are part of the corpus index's name.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir /tmp/hybatch-0.1.0
cd /tmp/hybatch-0.1.0
export HYBATCH_CACHE_DIR=cache OMP_NUM_THREADS=1 MPLBACKEND=Agg
cp "$here/run.yaml" .

python - <<'PYTHON'
import json
from pathlib import Path

import numpy as np

WORDS = {
    "de": "rot blau Haus Baum Fluss Berg Stadt Brot Vogel Stein Licht Wald".split(),
    "en": "red blue house tree river hill town bread bird stone light wood".split(),
    "es": "rojo azul casa árbol río monte ciudad pan pájaro piedra luz bosque".split(),
}


def row(language, number):
    words = [WORDS[language][(number // 12**place + place) % 12] for place in range(3)]
    passage = number - number % 10 if number % 10 == 7 else number  # some share the passage of another
    answer = [WORDS[language][(passage // 12**place + place) % 12] for place in range(3)]
    made = {"id": f"e{number}", "question": f"{' '.join(words)}?", "passage": f"{' '.join(answer)} {passage}."}
    if number % 5 == 0:
        made["negatives"] = [f"{' '.join(words[:2])} {number + 1}.", f"{WORDS[language][number % 12]} {number}."]
    if (number + len(language + made["id"])) % 11 == 0 and language != "en":
        del made["passage"]
    return made


for folder, numbers in (("corpus", range(60)), ("held-out", range(60, 80))):
    Path(folder).mkdir()
    for shift, language in enumerate(WORDS):
        rows = [row(language, number) for number in numbers if (number + shift) % 6 or language == "en"]
        text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows)
        Path(folder, f"{language}.jsonl").write_text(text, encoding="utf-8")

for seed, name in enumerate(("one", "other")):
    Path("embeddings", name).mkdir(parents=True)
    random = np.random.default_rng(seed)
    for part, field in (("queries", "question"), ("candidates", "passage")):
        for language in WORDS:
            rows = map(json.loads, Path("held-out", f"{language}.jsonl").read_text(encoding="utf-8").splitlines())
            count = len({one[field] for one in rows if field in one})
            np.save(f"embeddings/{name}/{part}.{language}.npy", random.integers(-2, 3, (count, 6)).astype(np.float32))

sentences = Path("sentences", "tatoeba")
sentences.mkdir(parents=True)
Path("embeddings", "sentences").mkdir()
for language, code in (("deu", "de"), ("spa", "es")):
    for side, words in ((language, WORDS[code]), ("eng", WORDS["en"])):
        Path(sentences, f"tatoeba.{language}-eng.{side}").write_text("\n".join(words) + "\n", encoding="utf-8")
    for part in ("queries", "candidates"):
        np.save(f"embeddings/sentences/{part}.{language}.npy", random.integers(-2, 3, (12, 6)).astype(np.float32))
PYTHON
touch -d @1700000000 corpus/*.jsonl held-out/*.jsonl

# The run, stopped by a signal in its seventh step of twelve.
python - <<'PYTHON' || [ $? = 138 ]
import os
import signal
import sys

from hybatch.train import main
from hybatch.training.engine import StepEngine

undisturbed = StepEngine.step


def step(engine, local):
    if local.batch.step + 1 == 7:
        os.kill(os.getpid(), signal.SIGUSR1)
    return undisturbed(engine, local)


StepEngine.step = step
sys.exit(main(["--config", "run.yaml"]))
PYTHON

for name in one other; do
    hybatch evaluate --task parallel --data-dir held-out --embeddings embeddings/$name --output results/$name
done
hybatch evaluate --task tatoeba --data-dir sentences --embeddings embeddings/sentences --output results/sentences
hybatch compare results/one results/other --output comparison

# What nothing reads and what names a machine stays out.
find . -name "*.lock" -delete
rm results/*/heatmap.png run.yaml
cp -r . "$here"
