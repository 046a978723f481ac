"""compare.py BUILD CASES: runs weft on the cases that hf_fixture.py made and compares, case by case.

Relative error of a tensor: largest difference over the tensor's largest magnitude. Bounds: logits and log-probabilities
1e-5, losses 1e-5, every gradient 1e-4."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

LOGITS, LOSS, GRADIENT = 1e-5, 1e-5, 1e-4


def relative(a, b):
    assert a.shape == b.shape, (a.shape, b.shape)
    scale = float(np.abs(b).max())
    difference = float(np.abs(a.astype(np.float64) - b).max())
    if np.isnan(difference):
        return float("inf")
    return difference / scale if scale > 0 else difference


def output_of(command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def logits_of(directory, ids):
    model = AutoModelForCausalLM.from_pretrained(directory, use_mamba_kernels=False, torch_dtype=torch.float32)
    model.eval()
    with torch.no_grad():
        return model(ids).logits.numpy()


def round_trip(weft, case):
    """Through `weft import` and `weft export`: the same tensors, and a model that transformers loads and runs."""
    model, run, back = (os.path.join(case, name) for name in ("model", "run", "back"))
    output_of([weft, "import", model, "-o", run])
    output_of([weft, "export", run, "-o", back])
    before, after = (load_file(os.path.join(d, "model.safetensors")) for d in (model, back))
    if before.keys() != after.keys() or any((before[name] != after[name]).any() for name in before):
        return False
    ids = torch.tensor([[int(t) for t in line.split()] for line in open(os.path.join(case, "ids.txt"))])
    return relative(logits_of(back, ids), logits_of(model, ids)) < 1e-6


def check_case(build, case):
    weft = os.path.join(build, "weft")
    expect = json.load(open(os.path.join(case, "expect.json")))
    model, ids, out = (os.path.join(case, name) for name in ("model", "ids.txt", "weft"))
    for name in ("weft", "run", "back"):
        shutil.rmtree(os.path.join(case, name), ignore_errors=True)
    losses = json.loads(output_of([os.path.join(build, "tests", "oracle_dump"), model, ids, out]))
    logits = np.fromfile(os.path.join(case, "logits.bin"), "<f4").reshape(expect["logits_shape"])
    ours = np.fromfile(os.path.join(out, "logits.bin"), "<f4").reshape(expect["logits_shape"])
    errors = {"logits": relative(ours, logits)}
    logprobs = json.loads(output_of([weft, "logprob", model, "--ids", ids, "--json"]))["logprobs"]
    errors["logprob"] = max(relative(np.array(a), np.array(b)) for a, b in zip(logprobs, expect["logprobs"], strict=True))
    errors["loss"] = abs(losses["total"] - expect["total_loss"]) / abs(expect["total_loss"])
    want, have = load_file(os.path.join(case, "grads.safetensors")), load_file(os.path.join(out, "grads", "model.safetensors"))
    assert want.keys() == have.keys(), sorted(want.keys() ^ have.keys())
    gradients = {name: relative(have[name], want[name]) for name in want}
    worst = max(gradients, key=gradients.get)
    errors["gradient"] = gradients[worst]
    same = round_trip(weft, case)
    good = errors["logits"] <= LOGITS and errors["logprob"] <= LOGITS and errors["loss"] <= LOSS and errors["gradient"] <= GRADIENT and same
    print("%-8s %9.1e %9.1e %9.1e %9.1e  %4d  %-5s %s  %s" % (os.path.basename(case), errors["logits"], errors["logprob"], errors["loss"],
          errors["gradient"], len(want), "same" if same else "DIFF", "ok" if good else "FAILED", worst))
    return good


def main():
    build, cases = sys.argv[1:]
    names = sorted(name for name in os.listdir(cases) if name.startswith("case_"))
    print("%-8s %9s %9s %9s %9s  %4s  %-5s" % ("case", "logits", "logprob", "loss", "gradient", "n", "trip"))
    results = [check_case(build, os.path.join(cases, name)) for name in names]
    print("%d passed, %d failed" % (sum(results), len(results) - sum(results)))
    sys.exit(0 if results and all(results) else 1)


main()
