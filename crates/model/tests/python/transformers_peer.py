"""Writes the logits that `transformers` computes with the model in FOLDER, for the ids in
FOLDER/ids.json, to FOLDER/logits.f32, and the name of the class it chose to standard output."""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

folder = Path(sys.argv[1])
ids = torch.tensor([json.loads((folder / "ids.json").read_text())])
model = AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32, attn_implementation="eager"
).eval()
with torch.no_grad():
    logits = model(ids, use_cache=False).logits[0]
logits.numpy().astype("<f4").tofile(folder / "logits.f32")
print(type(model).__name__)
