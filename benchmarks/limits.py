"""What limits a finished run, its objective or its network?  Two diagnoses that look at the truth, as no training here does.

    python benchmarks/limits.py --profile laptop --row chan_vese --seed 0 [--epochs 12] [--pictures 256]

**Objective.** The loss that the run minimised, part by part, at masks that it did not make: the truth, the truth on the
decoder's grid, the truth grown and shrunk, an ellipse, the whole picture.  Where the truth costs more than the learnt mask,
the loss asks for something else than the object.  A judge that is shown parts of the two halves is asked several times.

**Network.** The same decoder and classifier, from the same warm-up, taught the true masks by cross-entropy: how much of the
object can these feature maps tell at this size?  No row of Table 1, which learns from labels alone, can be expected above.
Three epochs are too few: the rates fall to zero with the last, and twelve end higher.

Both are measured on the pictures of the table, and printed as Markdown.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from bipartition import runs
from bipartition.baselines import centred_ellipse
from bipartition.configuration import Configuration
from bipartition.datasets.prepare import Prepared, Split
from bipartition.devices import accelerator_for_this_machine, descend
from bipartition.epochs import Material, generator, judges_turn, unit_range
from bipartition.evaluation import evaluate, foreground_overlap, object_truth
from bipartition.learners import PartitionLearner, judges_view, objective_parts
from bipartition.measures import through_the_grid
from bipartition.networks import Classifier, Partition, cut_pictures
from bipartition.prediction import predict
from bipartition.profiles import configuration_for, profile_or
from bipartition.rows import ROWS, WARM_UP, table_classes
from bipartition.training import fresh_learner

ROWS_WITH_ONE_DECODER = [name for name, row in ROWS.items() if row.network == "bipartition" and row.energy != "mumford_shah"]
STEP = 4
"""Pixels by which the truth is grown and shrunk, for each 112 of the picture's size."""
VIEWS = 8
"""Parts of every picture that a judge is asked about, where it is shown parts."""


def main() -> None:
    """Both diagnoses of one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--row", default="chan_vese", choices=ROWS_WITH_ONE_DECODER)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=12, help="of the network that is shown the truth; 0 leaves it out")
    parser.add_argument("--pictures", type=int, default=256, help="at most so many for the first diagnosis")
    options = parser.parse_args()
    profile = profile_or(parser.error, options.profile)
    dataset = profile.sets["table1"]
    configuration = configuration_for(profile, dataset, options.row, options.seed)
    folder = runs.run_folder(profile.name, dataset, options.row, options.seed)
    prepared = profile.prepared(dataset)
    if not runs.is_finished(folder, runs.made_by(configuration, prepared.checksum)):
        parser.exit(1, f"error: {folder} holds no finished run of today's profile; make it with: make train "
                       f"PROFILE={options.profile} ROWS={options.row} SEEDS={options.seed}\n")
    start = folder.parent.parent / WARM_UP / folder.name / "model.safetensors" if configuration.warmup_epochs else None
    print(f"{options.row} on {dataset}, seed {options.seed}, {configuration.size} px, profile {profile.name}\n")
    learner = fresh_learner(configuration, prepared, start, accelerator_for_this_machine())
    print("Judged by the classifier as the warm-up left it:\n")
    print(objective_table(learner, learner.network.classifier, prepared, np.load(folder / "masks.npy"), options.pictures))
    if configuration.judge == "turns":
        print("\nJudged by it after its turns at the masks of the finished run:\n")
        judge = judge_of_the_end(learner, prepared, folder)
        print(objective_table(learner, judge, prepared, np.load(folder / "masks.npy"), options.pictures))
    if options.epochs:
        print()
        for line in ceiling_lines(configuration, prepared, start, options.epochs):
            print(line, flush=True)


def judge_of_the_end(learner: PartitionLearner, prepared: Prepared, folder: Path) -> Classifier:
    """The judge is not kept with a run: all its turns once more, at the masks that came out."""
    learner.network.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    material = Material.of(prepared.split("train"), learner.accelerator.device)
    for epoch in range(1, learner.configuration.judge_turns + 1):
        judges_turn(learner, material, learner.configuration, epoch)
    return learner.network.snapshot


@torch.no_grad()
def objective_table(learner: PartitionLearner, judge: Classifier, prepared: Prepared, masks: np.ndarray, pictures: int) -> str:
    """Mean of each part of the loss at several masks, as `judge` sees them."""
    configuration, device = learner.configuration, learner.accelerator.device
    judge.eval()
    split = prepared.split("val")
    chosen = spread(len(split.labels), pictures)
    objects, void = object_truth(split.masks[chosen])
    truth = torch.from_numpy(objects)[:, None].float()
    grown, shrunk = grown_and_shrunk(truth)
    candidates = {
        "learnt": torch.from_numpy(masks[chosen])[:, None] / 255,
        "the truth": truth,
        "the truth on the decoder's grid": torch.from_numpy(through_the_grid(objects))[:, None] / 255,
        "the truth, grown": grown,
        "the truth, shrunk": shrunk,
        "centred ellipse": torch.from_numpy(centred_ellipse(np.array(split.images[chosen])))[:, None] / 255,
        "the whole picture": torch.ones_like(truth),
    }
    lines = []
    for name, foreground in candidates.items():
        sums: dict[str, float] = {}
        view = judges_view(configuration, generator(configuration.seed, "views"))  # the same parts for every mask
        views = VIEWS if view else 1
        for first in range(0, len(chosen), configuration.batch_size):
            part = slice(first, first + configuration.batch_size)
            image = unit_range(torch.from_numpy(np.array(split.images[chosen[part]])).to(device))
            labels = torch.from_numpy(split.labels[chosen[part]]).to(device)
            kept = foreground[part].to(device)
            for _ in range(views):
                logits = [judge(half)[0] for half in cut_pictures(image, 1 - kept, view)]
                parts = objective_parts(image, Partition(1 - kept, None, None, *logits), labels, learner.row, configuration)
                values = {key: learner.weights[key] * part.mean() for key, part in parts.items()}
                for key, value in ({"sum": sum(values.values())} | values).items():
                    sums[key] = sums.get(key, 0.0) + float(value) * len(labels) / (len(chosen) * views)
        if not lines:
            lines += ["| mask | IoU | " + " | ".join(sums) + " |", "|---|" + "---:|" * (len(sums) + 1)]
        cut = (foreground[:, 0] >= 0.5).numpy()
        overlap, union = foreground_overlap(cut, objects, void)
        iou = np.nanmean(np.where(union, overlap / np.maximum(union, 1), np.nan))
        lines.append(f"| {name} | {iou:.2f} | " + " | ".join(f"{value:.2f}" for value in sums.values()) + " |")
    return "\n".join(lines)


def spread(count: int, most: int) -> np.ndarray:
    """Of so many pictures at most that many, from the first to the last at even distances."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))


def steps(side: int) -> int:
    """`STEP` for pictures of that side, in pixels."""
    return round(STEP * side / 112)


def grown_and_shrunk(truth: Tensor) -> tuple[Tensor, Tensor]:
    """Masks, shape (N, 1, S, S), with `steps` pixels more and fewer on each side."""
    step = steps(truth.shape[-1])
    return F.max_pool2d(truth, 2 * step + 1, 1, step), -F.max_pool2d(-truth, 2 * step + 1, 1, step)


def ceiling_lines(configuration: Configuration, prepared: Prepared, start: Path, epochs: int) -> Iterator[str]:
    """A table line by line: IoU after each epoch of a network that is taught the true masks."""
    learner = fresh_learner(configuration, prepared, start, accelerator_for_this_machine())
    train, val = prepared.split("train"), prepared.split("val")
    steps = len(train.labels) // configuration.batch_size
    schedulers = [torch.optim.lr_scheduler.CosineAnnealingLR(one, steps * epochs) for one in learner.optimisers.values()]
    names = [name for name in table_classes(prepared.classes) if name in prepared.classes]
    yield "| epoch with the truth | mean IoU | " + " | ".join(names) + " |"
    yield "|---|" + "---:|" * (len(names) + 1)
    for epoch in range(epochs):
        learner.network.train()
        order = torch.randperm(len(train.labels), generator=generator(configuration.seed, "batches", epoch)).numpy()
        for step in range(steps):
            _teach(learner, train, order[step * configuration.batch_size:(step + 1) * configuration.batch_size])
            for scheduler in schedulers:
                scheduler.step()
        masks, _ = predict(learner, val.images, learner.accelerator)
        found = evaluate(masks, val, prepared.classes)["classes"]
        scores = [found[name]["iou"] if name in found else None for name in names]
        mean = np.mean([score for score in scores if score is not None])
        yield f"| {epoch + 1} | {mean:.3f} | " + " | ".join("" if s is None else f"{s:.2f}" for s in scores) + " |"


def _teach(learner: PartitionLearner, train: Split, chosen: np.ndarray) -> None:
    """One step towards the true masks; about half of the batches are mirrored, void pixels do not count."""
    device = learner.accelerator.device
    mirrored = bool(chosen[0] % 2)
    objects, void = (torch.from_numpy(array).to(device) for array in object_truth(train.masks[chosen]))
    image = unit_range(torch.from_numpy(np.array(train.images[chosen])).to(device))
    if mirrored:
        image, objects, void = image.flip(-1), objects.flip(-1), void.flip(-1)
    with learner.accelerator.autocast():
        phi = learner.network.segment(image).background_mask
    foreground = (1 - phi[:, 0]).clamp(1e-5, 1 - 1e-5)
    loss = (F.binary_cross_entropy(foreground, objects.float(), reduction="none") * ~void).mean()
    descend(learner.optimisers, loss, learner.accelerator)


if __name__ == "__main__":
    main()
