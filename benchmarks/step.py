"""How close is training to the limit, and how far from a straightforward loop?  Prints Markdown.

    python benchmarks/step.py [--size 112] [--batch 16] [--rounds 5] [--precision no] [--rows chan_vese mumford_shah ...]

- *limit*: three forward and backward passes of a bare ResNet-18 on a resident mini-batch, same precision, same memory
  layout, same convolutions.  No implementation of Figure 1 can beat that with this library on this machine, and that the
  gradient of the two cut pictures has to come through to their pixels is not even in it.
- *limit, torchvision*: the same passes with the convolutions of torchvision's ResNet-18.
- *a row*: its epoch as `bipartition.epochs` does it, resident pictures, mirroring and scaling included, in the literal
  reading: all three passes train the whole classifier, so that the work is comparable.
- *without energy*: the same for the row (b) of Figure 4, its two regularisers switched off too.
- *judged in parts*: Chan-Vese where the judge is shown a random part of both halves, as the profiles for photographs have it.
- *plain*: ``plain.py``, with Pillow and a DataLoader, always float32.

All are timed in turn within one run; only the ratios mean something on a shared machine.  Below them: where the time goes, and
what parts of a step gain over the plain loop's by themselves.  Several numbers for ``--batch`` repeat all of it;
``--profile`` adds what PyTorch's profiler says of the last row.
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from torch.profiler import profile
from torchvision.models import resnet18

import plain
from bipartition import learners, networks
from bipartition.configuration import Configuration
from bipartition.datasets.cartoons import CLASSES
from bipartition.datasets.prepare import prepare
from bipartition.devices import accelerator_for_this_machine, device_name
from bipartition.energies import chan_vese
from bipartition.epochs import Material, train_epoch, unit_range
from bipartition.learners import Learner, build_learner
from bipartition.networks import Classifier
from bipartition.objectives import segmentation_objective
from bipartition.rows import ROWS

LIMIT, USUAL = "limit", "limit, torchvision"
WITHOUT = "without energy"
IN_PARTS = "chan_vese, judged in parts"
PLAIN = {"chan_vese": False, "mumford_shah": True}
STEPS, STEPS_ON_A_CARD = 4, 64
"""Of each measurement: a row's checks its weights and brings its losses back at the end, for which a GPU has to be waited."""
PHOTOGRAPH = (500, 375)
"""Width and height of VOC's photographs, to which the cartoons are enlarged for the plain loop."""


def main() -> None:
    """Time all of them and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, nargs="+", default=[32])
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=["no", "bf16"], help="that of this machine if it is not given")
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), help="of the plain loop's DataLoader")
    parser.add_argument("--rows", nargs="+", default=["classification_only", "chan_vese", "mumford_shah"],
                        choices=[name for name, row in ROWS.items() if row.network == "bipartition"])
    options = parser.parse_args()
    for batch in options.batch:
        _compare(argparse.Namespace(**vars(options) | {"batch": batch}))


def _compare(options: argparse.Namespace) -> None:
    if options.precision:
        Accelerator(mixed_precision=options.precision)  # whose choice stays
    accelerator = accelerator_for_this_machine()
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    options.steps = STEPS if accelerator.device.type == "cpu" else STEPS_ON_A_CARD
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BIPARTITION_DATA"] = folder
        material = _material(options, accelerator)
        photographs = _photographs(Path(folder) / "jpeg", material)
        bodies = {LIMIT: Classifier(len(CLASSES)).body, USUAL: resnet18(num_classes=len(CLASSES))}
        steps: dict[str, Callable[[], object]] = {
            name: _three_bare_passes(body, material, options, accelerator) for name, body in bodies.items()}
        rows = {row: _row(row, options, accelerator) for row in options.rows}
        steps |= {row: _epoch(learner, material) for row, learner in rows.items()}
        steps[WITHOUT] = _epoch(_row("classification_only", options, accelerator, regularised=False), material)
        steps[IN_PARTS] = _epoch(_row("chan_vese", options, accelerator, judge_crops=0.1), material)
        steps |= {f"plain {row}": _plain(row, photographs, options, accelerator) for row in options.rows if row in PLAIN}
        seconds = _in_turn(steps, options.rounds, accelerator)

    print(f"{device_name(accelerator)}, precision {accelerator.mixed_precision}, batches of {options.batch} at {options.size} "
          f"px, {options.rounds} rounds of {options.steps} steps, {options.workers} workers for the plain loop; median "
          "[smallest, largest]\n")
    print("| | pictures/s | share of the limit | of that of torchvision | times the plain loop |")
    print("| :-- | --: | :-: | :-: | :-: |")
    for name, taken in seconds.items():
        against = seconds.get(f"plain {name}")
        print(f"| {name} | {options.steps * options.batch / statistics.median(taken):.1f} | {_ratio(seconds[LIMIT], taken)} | "
              f"{_ratio(seconds[USUAL], taken)} | "
              f"{_ratio(against, taken) if against else ''} |")
    print(f"\nPeak memory of this process: {_peak(accelerator)}.\n")
    print("| share of the time | " + " | ".join(rows) + " |")
    print("| :-- |" + " --: |" * len(rows))
    shares = {row: _shares(learner, steps[row], accelerator) for row, learner in rows.items()}
    for part in next(iter(shares.values())):
        print(f"| {part} | " + " | ".join(f"{shares[row][part]:.2f}" for row in rows) + " |")
    print("\n| forward and backward, times the plain loop's | |\n| :-- | :-: |")
    for part, (ours, theirs) in _parts(options, accelerator).items():
        taken = _in_turn({"ours": ours, "theirs": theirs}, options.rounds, accelerator)
        print(f"| {part} | {_ratio(taken['theirs'], taken['ours'])} |")
    if options.profile:
        with profile() as found:
            steps[options.rows[-1]]()
        by = "self_cpu_time_total" if accelerator.device.type == "cpu" else "self_device_time_total"
        print(f"\n{found.key_averages().table(sort_by=by, row_limit=15, max_name_column_width=40)}")
    print(flush=True)


def _parts(options: argparse.Namespace, accelerator: Accelerator) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """What computes the same in two ways: ours, and the plain loop's."""
    rng = torch.Generator().manual_seed(0)
    size, device = options.size, accelerator.device
    maps = [torch.rand(options.batch, channels, size // stride, size // stride, generator=rng)
            for channels, stride in zip(Classifier.CHANNELS, (4, 4, 8, 16, 32), strict=True)]
    features = tuple(one.to(device, memory_format=torch.channels_last).requires_grad_(True) for one in maps)
    image = torch.rand(options.batch, 3, size, size, generator=rng).to(device, memory_format=torch.channels_last)
    phi, *matrices = (torch.rand(options.batch, channels, size, size, generator=rng).to(device).requires_grad_(True)
                      for channels in (1, 3, 3))

    def decoded(kind: type, outputs: Sequence[int], decode: Callable[[list], list]) -> Callable[[], None]:
        decoders = [kind(count).to(device, memory_format=torch.channels_last) for count in outputs]

        def work() -> None:
            with accelerator.autocast():
                out = decode(decoders)
            sum(one.float().mean() for one in out).backward()
        return work

    def each(decoders: list) -> list:
        return [decoder(features, (size, size)) for decoder in decoders]

    def fused(decoders: list) -> list:
        return networks.fused_decoders(decoders, features, (size, size))

    def passes(stage: nn.Module, x: Tensor) -> Callable[[], None]:
        stage = stage.to(device, memory_format=torch.channels_last)

        def work() -> None:
            with accelerator.autocast():
                out = stage(x)
            out.float().mean().backward()
        return work

    def stages(body: nn.Module) -> Callable[[], None]:
        return passes(nn.Sequential(body.layer3, body.layer4), features[2])

    def stem(body: nn.Module) -> Callable[[], None]:
        return passes(body.conv1.requires_grad_(False), image.clone().requires_grad_(True))

    def pooling(*order: str) -> Callable[[], None]:
        body = Classifier(len(CLASSES)).body.to(device, memory_format=torch.channels_last)
        with accelerator.autocast(), torch.no_grad():
            x = body.conv1(image)
        return passes(nn.Sequential(*map(body.get_submodule, order)), x.requires_grad_(True))

    def smooth_energy() -> None:
        parts = segmentation_objective(image, phi, matrices)
        sum(part.mean() for name, part in parts.items() if name != "area").backward()

    def plain_smooth_energy() -> None:
        (plain.fidelity(image, phi, *matrices) + sum(map(plain.variation, (phi, *matrices)))).backward()

    def adam(body: nn.Module, **how: bool) -> Callable[[], None]:
        parameters = list(body.to(device, memory_format=torch.channels_last).parameters())
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        return torch.optim.Adam(parameters, **how).step

    return {
        "stem, to the pictures": (stem(Classifier(len(CLASSES)).body), stem(resnet18(num_classes=len(CLASSES)))),
        "batch norm, pooling, ReLU": (pooling("bn1", "maxpool", "relu"), pooling("bn1", "relu", "maxpool")),
        "layer3 and layer4": (stages(Classifier(len(CLASSES)).body), stages(resnet18(num_classes=len(CLASSES)))),
        "step of Adam": (adam(Classifier(len(CLASSES)).body, fused=True), adam(resnet18(num_classes=len(CLASSES)))),
        "one decoder": (decoded(networks.Decoder, [1], fused), decoded(plain.PlainDecoder, [1], each)),
        "three decoders": (decoded(networks.Decoder, [1, 3, 3], fused), decoded(plain.PlainDecoder, [1, 3, 3], each)),
        "energy of (7)": (lambda: chan_vese(image, phi).mean().backward(),
                          lambda: plain.fidelity(image, phi, *plain.two_colours(image, phi)).backward()),
        "energy of (10), its three variations": (smooth_energy, plain_smooth_energy),
    }


def _material(options: argparse.Namespace, accelerator: Accelerator) -> Material:
    """Enough pictures for one measurement, as `bipartition.epochs` keeps them."""
    prepared = prepare("cartoons", options.size, {"train": options.steps * options.batch, "val": 1})
    return Material.of(prepared.split("train"), accelerator.device)


def _photographs(folder: Path, material: Material) -> Path:
    """The same as JPEG files of a usual size."""
    folder.mkdir()
    for number, (picture, label) in enumerate(zip(material.pictures.cpu(), material.labels.tolist(), strict=True)):
        image = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize(PHOTOGRAPH, Image.Resampling.BICUBIC)
        image.save(folder / f"{label}_{number:04d}.jpg", quality=90)
    return folder


def _three_bare_passes(body: nn.Module, material: Material, options: argparse.Namespace,
                       accelerator: Accelerator) -> Callable[[], None]:
    network = body.to(accelerator.device, memory_format=torch.channels_last).train()
    image, labels = unit_range(material.pictures[:options.batch]), material.labels[:options.batch]

    def steps() -> None:
        for _ in range(options.steps):
            network.zero_grad(set_to_none=True)
            for _ in range(3):
                with accelerator.autocast():
                    loss = F.cross_entropy(network(image).float(), labels)
                loss.backward()
    return steps


def _configuration(row: str, options: argparse.Namespace, **settings: Any) -> Configuration:
    return Configuration(row=row, dataset="cartoons", seed=0, size=options.size, batch_size=options.batch, weights="none",
                         classifier_learns="everything", batch_norm="shared", optimiser="sgd", **settings)


def _row(row: str, options: argparse.Namespace, accelerator: Accelerator, **settings: Any) -> Learner:
    learner = build_learner(_configuration(row, options, **settings), Classifier(len(CLASSES)), accelerator)
    learner.network.to(accelerator.device, memory_format=torch.channels_last)
    return learner


def _epoch(learner: Learner, material: Material) -> Callable[[], object]:
    steps = len(material.labels) // learner.configuration.batch_size
    return lambda: train_epoch(learner, material, learner.configuration, 0, steps, {})


def _plain(row: str, folder: Path, options: argparse.Namespace, accelerator: Accelerator) -> Callable[[], None]:
    network = plain.PlainNetwork(len(CLASSES), matrices=PLAIN[row]).to(accelerator.device).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)
    settings = _configuration(row, options)
    weights = {name: getattr(settings, name) for name in ("alpha", "lambda1", "lambda2", "lambda3", "lambda4")}
    batches = plain.loader(folder, options.size, options.batch, options.workers)

    def steps() -> None:
        for image, labels in batches:
            optimiser.zero_grad()
            network(image.to(accelerator.device), labels.to(accelerator.device), **weights).backward()
            optimiser.step()
    return steps


def _in_turn(steps: dict[str, Callable[[], object]], rounds: int, accelerator: Accelerator) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for work in steps.values():
        _timed(work, accelerator)
    for _ in range(rounds):
        for name, work in steps.items():
            seconds[name].append(_timed(work, accelerator))
    return seconds


def _timed(work: Callable[[], object], accelerator: Accelerator) -> float:
    _wait(accelerator)
    began = time.perf_counter()
    work()
    _wait(accelerator)
    return time.perf_counter() - began


def _wait(accelerator: Accelerator) -> None:
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize()


def _ratio(taken: list[float], own: list[float]) -> str:
    ratios = [one / other for one, other in zip(taken, own, strict=True)]
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def _peak(accelerator: Accelerator) -> str:
    if accelerator.device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB on the card"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"


def _shares(learner: Learner, work: Callable[[], object], accelerator: Accelerator) -> dict[str, float]:
    """What of a step goes where; each part waits for the device, which costs a GPU some of its pace."""
    spent = {"classifier, three forward passes": 0.0, "decoders, forward": 0.0, "objective, forward": 0.0, "backward": 0.0,
             "optimisers": 0.0}
    with _watched(spent, accelerator, {
        "classifier, three forward passes": [(learner.network.classifier, "forward")],
        "decoders, forward": [(networks, "fused_decoders")],
        "objective, forward": [(learners, "objective_parts")],
        "backward": [(learner.accelerator, "backward")],
        "optimisers": [(optimiser, "step") for optimiser in learner.optimisers.values()],
    }):
        whole = sum(_timed(work, accelerator) for _ in range(3))
    shares = {part: seconds / whole for part, seconds in spent.items()}
    return shares | {"all else: pictures, sums, history": 1 - sum(shares.values())}


@contextmanager
def _watched(spent: dict[str, float], accelerator: Accelerator, parts: dict[str, list[tuple[Any, str]]]) -> Iterator[None]:
    """Functions in place of which ones stand that add the time they take to `spent`."""
    kept = [(owner, name, vars(owner).get(name)) for places in parts.values() for owner, name in places]

    def watched(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            _wait(accelerator)
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                _wait(accelerator)
                spent[part] += time.perf_counter() - began
        return call

    for part, places in parts.items():
        for owner, name in places:
            setattr(owner, name, watched(part, getattr(owner, name)))
    try:
        yield
    finally:
        for owner, name, own in kept:
            if own is None:
                delattr(owner, name)
            else:
                setattr(owner, name, own)


if __name__ == "__main__":
    main()
