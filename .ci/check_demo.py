"""Fail unless the demo's evaluation reaches what the README promises of it."""

import json
import sys

PROMISED = {"monolingual": 0.90, "cross_lingual": 0.70, "multilingual": 0.60}

with open(sys.argv[1], encoding="utf-8") as file:
    summary = json.load(file)["summary"]
short = []
for setting, promised in PROMISED.items():
    reached = summary[setting]["map"]
    print(f"{setting:<14} mAP {reached:.3f}  (promised {promised:.2f})")
    if reached < promised:
        short.append(setting)
sys.exit(f"the demo fell short in: {', '.join(short)}" if short else 0)
