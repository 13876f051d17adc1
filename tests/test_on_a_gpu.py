"""What only a GPU can show: every row trains on it, and learns what the CPU learns.  Left out where PyTorch can use none."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch

from bipartition.rows import ROWS, WARM_UP

PROFILE = f"""\
about: All rows for a GPU.
sets: {{table1: cartoons, gallery: cartoons}}
seeds: [0]
rows: [{", ".join(ROWS)}]
data:
  cartoons: {{train: 48, val: 12}}
training: {{size: 32, batch_size: 8, epochs: 1, warmup_epochs: 1, warmup_cuts: 0.5, warmup_contours: 0.5, weights: none,
           optimiser: adam, warmup_rate: 0.001, classifier_rate: 0.001, decoder_rate: 0.001, matrix_rate: 0.001,
           judge: snapshot, judge_crops: 0.3, batch_norm: frozen, autoencoder_width: 4}}
"""


@pytest.mark.slow(seconds=60)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch can use no GPU here")
def test_every_row_trains_on_the_gpu_as_on_the_cpu(tmp_path):
    on_card, on_cpu = (trained(tmp_path / device, device) for device in ("cuda", "cpu"))
    for row in (WARM_UP, *ROWS):
        folder, other = (runs / row / "seed0" for runs in (on_card, on_cpu))
        assert not json.loads((folder / "config.json").read_text())["device"].startswith("cpu")
        found, expected = (losses(place / "history.csv") for place in (folder, other))
        assert len(found) > 1 and found == pytest.approx(expected, rel=0.05, abs=0.02)  # bfloat16 on one of them, perhaps
        assert json.loads((folder / "metrics.json").read_text())["classes"]


def losses(history):
    """Of the only epoch, by name: its loss and the parts of it."""
    line = pd.read_csv(history).iloc[0]
    return {name: number for name, number in line.items() if name != "accuracy" and not name.startswith("val_")}


def trained(folder, device):
    """The folder of all runs of `PROFILE`, trained on `device` in a process of its own, as it opens one device for good."""
    folder.mkdir()
    (folder / "gpu.yaml").write_text(PROFILE, encoding="utf-8")
    environment = os.environ | {"ACCELERATE_TORCH_DEVICE": device, "BIPARTITION_DATA": str(folder / "data"),
                                "BIPARTITION_RESULTS": str(folder / "results")}
    ended = subprocess.run([sys.executable, "-m", "bipartition.pipeline", "--profile", str(folder / "gpu.yaml"), "--steps",
                            "data,train", "--no-notebooks"], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder / "results" / "gpu" / "runs" / "cartoons"
