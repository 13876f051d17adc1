"""One outer loop for every row: epochs, schedule, checkpoints, history; each row brings its step (see `learners`).

What a row learns from in one epoch, and what it draws, is in `epochs`.
"""

import contextlib
import dataclasses
import io
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from safetensors.torch import save
from torch import nn

from bipartition import files, runs
from bipartition.configuration import Configuration, warm_up_configuration
from bipartition.datasets.download import imagenet_weights
from bipartition.datasets.prepare import Prepared, Split
from bipartition.devices import accelerator_for_this_machine, device_name, unused_card
from bipartition.epochs import Material, generator, judges_turn, schedulers_for, train_epoch
from bipartition.evaluation import evaluate, glance, is_collapsed
from bipartition.learners import Learner, build_learner
from bipartition.networks import Classifier, belongs_to_a_judge, saved_network
from bipartition.prediction import predict
from bipartition.rows import WARM_UP

CODE = runs.method_code()
"""Digests of the code that this process computes with; its files may change meanwhile."""
CHECKPOINT = 2
"""Counts the changes of what a checkpoint holds: one of an earlier kind is not read, and its run begins anew."""
WATCHED = 256
"""Pictures of the validation part that are looked at after each epoch; the end looks at all."""


def train_row(configuration: Configuration, prepared: Prepared, folder: Path, *, profile: str,
              report: Callable[[str], None] = print) -> None:
    """Train one row and evaluate it, or go on where an earlier call stopped, or do nothing if it is finished.

    Where another process trains in the same folder, this one waits for it.

    Parameters
    ----------
    configuration : Configuration
        What to train.
    prepared : bipartition.datasets.prepare.Prepared
        The decoded photographs, at the configuration's size.
    folder : Path
        The run's own, see `bipartition.runs.run_folder`.  Ends with config.json, history.csv, model.safetensors, masks.npy
        and, last, metrics.json.
    profile : str
        Recorded in config.json.
    report : callable
        Gets one line of text for each epoch.

    Raises
    ------
    ValueError
        If the photographs do not fit the configuration, or the weights file is not a ResNet-18.
    FloatingPointError
        If a loss is not finite, with the parts that are not.
    RuntimeError
        If the device's memory is too small, with settings to halve.
    OSError
        If the folder cannot be written.
    """
    accelerator = accelerator_for_this_machine()
    _check(configuration, prepared, accelerator.num_processes)
    if accelerator.num_processes == 1 and _is_done(configuration, prepared, folder):  # on a disk that may be read-only
        report(f"{folder}: finished already")
        return
    with files.alone(folder) if accelerator.is_main_process else contextlib.nullcontext():
        accelerator.wait_for_everyone()
        _train_row(configuration, prepared, folder, profile, report if accelerator.is_main_process else lambda line: None,
                   accelerator)
        accelerator.wait_for_everyone()


def _train_row(configuration: Configuration, prepared: Prepared, folder: Path, profile: str, report: Callable[[str], None],
               accelerator: Accelerator) -> None:
    if _is_done(configuration, prepared, folder):
        report(f"{folder}: finished already")
        return
    made_by = runs.made_by(configuration, prepared.checksum)
    start = _warmed_up(configuration, prepared, folder, profile, report)
    learner = fresh_learner(configuration, prepared, start, accelerator)
    train, val = prepared.split("train"), prepared.split("val")
    config = {
        "configuration": configuration.to_dict(), "profile": profile, "made_by": made_by, "provenance": runs.provenance(),
        "parameters": sum(p.numel() for name, p in learner.network.named_parameters() if not belongs_to_a_judge(name)),
        "classes": list(prepared.classes), "device": device_name(accelerator),
        "precision": {"bf16": "bfloat16"}.get(accelerator.mixed_precision, "float32"),
    }
    steps = max(1, len(train.labels) // configuration.batch_size)
    schedulers = schedulers_for(learner, steps * configuration.epochs)
    history, minutes, config["code"] = _resume(folder, made_by, learner, schedulers, accelerator)
    accelerator.wait_for_everyone()  # all have read what the first now writes
    if accelerator.is_main_process:
        files.sweep(folder)
        if (folder / "metrics.json").is_file() and not runs.is_finished(folder, made_by):
            report(f"{folder}: replaces a run that other settings, pictures, first weights or code have made")
        # Before the new configuration is written: it must never stand beside numbers that another one made.
        (folder / "metrics.json").unlink(missing_ok=True)
        files.write_json(folder / "config.json", config | {"minutes": None})
        if changed := runs.changed_code(folder, CODE):
            report(f"{folder}: goes on from epochs of other code ({', '.join(changed)}); delete checkpoint.pt to begin anew")
    if unused := unused_card():
        report(unused)
    try:
        material = Material.of(train, accelerator.device)
        for epoch in range(len(history), configuration.epochs):
            began = time.perf_counter()
            taught = judges_turn(learner, material, configuration, epoch)
            means = train_epoch(learner, material, configuration, epoch, steps, schedulers) | taught
            if not accelerator.is_main_process:
                continue
            history.append({"epoch": epoch + 1} | means | _watch(learner, val, accelerator))
            minutes += (time.perf_counter() - began) / 60
            files.write_text(folder / "history.csv", pd.DataFrame(history).to_csv(index=False, lineterminator="\n"))
            _save_checkpoint(folder, config, learner, schedulers, history, minutes)
            rate = steps * min(configuration.batch_size, len(train.labels)) / (time.perf_counter() - began)
            report(_line(configuration, history[-1], rate))
        if accelerator.is_main_process:
            _finish(folder, learner, val, prepared, accelerator, config | {"minutes": round(minutes, 3)})
    except FloatingPointError as error:
        kept = f"the state after epoch {len(history)} is kept in {folder / 'checkpoint.pt'}" if history else (
            "no state was kept yet")
        raise FloatingPointError(f"{error}; {kept}") from None
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):  # the latter on a CPU
            raise
        raise RuntimeError(_too_large(configuration, accelerator, train)) from error


def _is_done(configuration: Configuration, prepared: Prepared, folder: Path) -> bool:
    """Whether nothing is left to do.

    A warm-up whose model was not copied with it is of no use to the rows that need it, nor a row without its masks to figures.
    """
    needed = "model.safetensors" if configuration.row == WARM_UP else "masks.npy"
    return (folder / needed).is_file() and runs.is_finished(folder, runs.made_by(configuration, prepared.checksum))


def _warmed_up(configuration: Configuration, prepared: Prepared, folder: Path, profile: str,
               report: Callable[[str], None]) -> Path | None:
    """The model of the row's warm-up, which is trained now unless another row has done it; None for a row without any."""
    if configuration.network in (WARM_UP, "autoencoder") or configuration.warmup_epochs == 0:
        return None
    warm_up = folder.parent.parent / WARM_UP / folder.name
    train_row(warm_up_configuration(configuration), prepared, warm_up, profile=profile, report=report)
    return warm_up / "model.safetensors"


def _watch(learner: Learner, val: Split, accelerator: Accelerator) -> dict[str, float]:
    """Accuracy, mask area, shares of grey pixels and of masks that cut nothing, IoU; on some of the validation part."""
    chosen = np.unique(np.linspace(0, len(val.labels) - 1, min(WATCHED, len(val.labels))).astype(int))
    part = dataclasses.replace(val, images=val.images[chosen], labels=val.labels[chosen],
                               masks=None if val.masks is None else val.masks[chosen],
                               ids=[val.ids[i] for i in chosen], truth_codes=val.truth_codes[chosen])
    masks, logits = predict(learner, part.images, accelerator)
    seen: dict[str, float] = {}
    if logits is not None:
        seen["val_accuracy"] = float((logits.argmax(axis=1) == part.labels).mean())
    if not isinstance(learner.network, Classifier):
        seen |= {f"val_{name.removeprefix('mean_')}": number for name, number in glance(masks, part).items()}
    return seen


def _finish(folder: Path, learner: Learner, val: Split, prepared: Prepared, accelerator: Accelerator,
            config: dict[str, Any]) -> None:
    masks, logits = predict(learner, val.images, accelerator)
    accuracy = None if logits is None else float((logits.argmax(axis=1) == val.labels).mean())
    metrics = {"accuracy": accuracy} | evaluate(masks, val, prepared.classes)
    files.write_array(folder / "masks.npy", masks)
    kept = {name: value.contiguous() for name, value in learner.network.state_dict().items() if not belongs_to_a_judge(name)}
    files.write_bytes(folder / "model.safetensors", save(kept))
    files.write_json(folder / "config.json", config)
    files.write_json(folder / "metrics.json", metrics)
    (folder / "checkpoint.pt").unlink(missing_ok=True)


def fresh_learner(configuration: Configuration, prepared: Prepared, start: Path | None,
                  accelerator: Accelerator) -> Learner:
    """The learner of a row before its first step; `start` is the model of its warm-up, None if it has none."""
    pretrained = configuration.weights == "imagenet" and start is None and configuration.network != "autoencoder"
    weights = (runs.weights_file() or imagenet_weights()) if pretrained else None
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU
        torch.manual_seed(generator(configuration.seed, "initial weights").initial_seed())
        classifier = Classifier(len(prepared.classes), weights)
        if start is not None:
            classifier.load_state_dict(saved_network(start))
        learner = build_learner(configuration, classifier, accelerator)
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        learner.network = nn.SyncBatchNorm.convert_sync_batchnorm(learner.network)
    learner.network.to(accelerator.device, memory_format=torch.channels_last)
    return learner


def _resume(folder: Path, made_by: dict[str, Any], learner: Learner, schedulers: dict[str, Any],
            accelerator: Accelerator) -> tuple[list[dict[str, float]], float, dict[str, str]]:
    """History, minutes and `bipartition.runs.method_code` of what an earlier call left, its state put into learner and
    schedulers; no history, and today's code, if none fits."""
    path, anew = folder / "checkpoint.pt", ([], 0.0, CODE)
    if not path.is_file():
        return anew
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is not a checkpoint, or a damaged one; delete it, and the run begins anew") from error
    if state.get("made_by") != runs.fingerprint(made_by | {"checkpoint": CHECKPOINT}):
        return anew
    learner.network.load_state_dict(state["network"])
    learner.network.to(accelerator.device, memory_format=torch.channels_last)
    for name, optimiser in learner.optimisers.items():
        optimiser.load_state_dict(state["optimisers"][name])
        schedulers[name].load_state_dict(state["schedulers"][name])
    return state["history"], state["minutes"], state.get("code", CODE)


def _save_checkpoint(folder: Path, config: dict[str, Any], learner: Learner, schedulers: dict[str, Any],
                     history: list[dict[str, float]], minutes: float) -> None:
    stream = io.BytesIO()
    torch.save({
        "made_by": runs.fingerprint(config["made_by"] | {"checkpoint": CHECKPOINT}),
        "code": config["code"],
        "network": learner.network.state_dict(),
        "optimisers": {name: optimiser.state_dict() for name, optimiser in learner.optimisers.items()},
        "schedulers": {name: scheduler.state_dict() for name, scheduler in schedulers.items()},
        "history": history,
        "minutes": minutes,
    }, stream)
    files.write_bytes(folder / "checkpoint.pt", stream.getbuffer())


def _too_large(configuration: Configuration, accelerator: Accelerator, train: Split) -> str:
    """What is said where the device's memory is too small; the judge's turns have the warm-up's mini-batches."""
    sizes = {} if configuration.row == WARM_UP else {"batch_size": configuration.batch_size}
    if configuration.row == WARM_UP or configuration.judge_has_turns:
        sizes["warmup_batch_size"] = configuration.warmup_batch_size
    now = ", ".join(f"{name} = {size}" for name, size in sizes.items())
    half = ", ".join(f"{name}: {max(1, size // 2)}" for name, size in sizes.items())
    return (f"{configuration.row} on {configuration.dataset}: the memory of {device_name(accelerator)} does not hold pictures "
            f"of {configuration.size} x {configuration.size} with {now} beside the {train.images.nbytes / 1e9:.1f} GB of the "
            f"training part; write {half} in the profile, or end what else uses that memory")


def _check(configuration: Configuration, prepared: Prepared, processes: int) -> None:
    if configuration.size != prepared.size:
        raise ValueError(f"the run asks for pictures of size {configuration.size}, but {prepared.folder} holds size "
                         f"{prepared.size}; prepare {configuration.dataset} at {configuration.size}")
    names = ("batch_size", "warmup_batch_size") if configuration.judge_has_turns else ("batch_size",)
    sizes = {name: getattr(configuration, name) for name in names}
    for name, size in sizes.items():
        if size % processes:
            raise ValueError(f"{name} = {size} cannot be shared by {processes} processes; start a number of processes that "
                             "divides it, or change it in the profile")
    pictures = len(prepared.split("train").labels)
    for name, size in sizes.items():
        if pictures < size and pictures % processes:
            raise ValueError(f"{pictures} pictures, fewer than {name} = {size}, cannot be shared by {processes} processes; "
                             "start one, or take more pictures")
    if configuration.network != "autoencoder" and len(prepared.classes) < 2:
        raise ValueError(f"{prepared.name} has pictures of one class only, {prepared.classes[0]} ({prepared.folder}): a "
                         "classifier has nothing to tell apart; add pictures of another, or train a row with an energy only")
    together = min(configuration.batch_size, pictures)
    if together == processes and _last_map_is_one_pixel(configuration) and _normalises(configuration):
        name = "warmup_batch_size" if configuration.row == WARM_UP else "batch_size"
        raise ValueError(f"{name} = {configuration.batch_size} leaves batch norm one number in each channel of the last maps "
                         f"at size {configuration.size}, from {together} of {pictures} pictures at a time; write "
                         f"{2 * processes} or more, or take larger pictures, or more")


def _normalises(configuration: Configuration) -> bool:
    """Whether batch norm takes its statistics from the mini-batch."""
    is_fixed = configuration.batch_norm == "frozen" or configuration.classifier_learns == "nothing"
    return configuration.network != "bipartition" or not is_fixed


def _last_map_is_one_pixel(configuration: Configuration) -> bool:
    """Of those that batch norm sees: layer4's, or an auto-encoder's after a pooling that is not the end of its encoder."""
    if configuration.network != "autoencoder":
        return configuration.size <= 32
    return configuration.size == 2**configuration.autoencoder_poolings and configuration.autoencoder_poolings < 5


def _line(configuration: Configuration, last: dict[str, float], rate: float) -> str:
    numbers = "  ".join(f"{name} {value:.3f}" for name, value in last.items() if name != "epoch")
    warning = "  COLLAPSED: masks are all or nothing" if is_collapsed(last, "val_collapsed") else ""
    return (f"{configuration.dataset}/{configuration.row}/seed{configuration.seed}  "
            f"epoch {last['epoch']}/{configuration.epochs}  {numbers}  {rate:.0f} pictures/s{warning}")
