"""What is said of bad input: one case a line, its message in results/published/bad-input.md, which is made from here.

``python tests/test_bad_input.py`` writes that page anew.  Each message has to hold the words of its case: the thing, the value
that is wrong, and what to do.
"""

import dataclasses
import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from bipartition import files, runs
from bipartition.configuration import Configuration
from bipartition.datasets import open_dataset
from bipartition.datasets.download import ARCHIVES, VARIABLES, fetch, imagenet_weights, located, unpack
from bipartition.datasets.photographs import read_mask
from bipartition.datasets.prepare import prepare, prepared_before
from bipartition.devices import accelerator_for_this_machine
from bipartition.energies import chan_vese
from bipartition.evaluation import evaluate
from bipartition.figures import choose
from bipartition.networks import Classifier
from bipartition.notebooks import execute
from bipartition.objectives import background_loss
from bipartition.pipeline import request_for
from bipartition.profiles import load_profile
from bipartition.tasks import plan
from bipartition.training import train_row
from bipartition.trials import main as trials_main
from conftest import ROOT, TINY
from miniatures import add_member, write_dogs_vs_cats, write_oxford_pets, write_voc

PAGE = ROOT / "results" / "published" / "bad-input.md"
HEAD = """# What is said of bad input

Made by `python tests/test_bad_input.py`; `tests/test_bad_input.py` fails if more of a message changes than its
numbers. … stands for a folder.

| of | what is wrong | what is said |
| :-- | :-- | :-- |
"""


class Case(NamedTuple):
    """`act` gets an empty folder, may set environment variables, and must raise."""

    of: str
    wrong: str
    act: Callable[[Path], None]
    words: tuple[str, ...]


CASES: list[Case] = []


def case(of, wrong, *words):
    """Register a function as a case."""
    def register(act):
        CASES.append(Case(of, wrong, act, words))
        return act
    return register


def setting(name, value, *words):
    """A case of one setting of a run."""
    case("settings", f"`{name} = {value!r}`", name, *words)(
        lambda folder: Configuration.build({"row": "chan_vese", "dataset": "cartoons", "seed": 0}, {name: value}))


def profile_of(folder, **changes):
    """A profile's file with some keys replaced, or taken out where the new value is None."""
    content = yaml.safe_load(TINY) | changes
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}), encoding="utf-8")
    return path


def profile(wrong, *words, **changes):
    """A case of one key of a profile."""
    case("profile", wrong, "mine.yaml", *words)(lambda folder: load_profile(str(profile_of(folder, **changes))))


def place_without_pictures(variable, dataset, wrong, *words):
    """A case of a variable that names a folder without the data set."""
    def act(folder):
        os.environ[variable] = str(folder)
        open_dataset(dataset)
    case("data", f"{variable} is {wrong}", variable, *words)(act)


setting("row", "chan-vese", "= 'chan-vese'; it must be one of", "'chan_vese'")
setting("lambda_1", 0.2, "'lambda_1' is no setting of a run (did you mean 'lambda1'?); the settings are")
setting("judge", "teacher", "= 'teacher'; it must be one of", "'turns'")
setting("size", 111, "= 111; it must be a multiple of 4")
setting("batch_size", 0, "= 0; it must be greater than 0")
setting("epochs", 2.5, "= 2.5; it must be a whole number")
setting("decoder_rate", "1e-x", "= '1e-x'; it must be a number")
setting("judge_crops", 0.0, "= 0.0; it must be greater than 0 and at most 1")
setting("alpha", float("nan"), "= nan; it must be a finite number")
setting("lambda2", -0.1, "= -0.1; it must be 0 or greater")
setting("warmup_cuts", 1.5, "= 1.5; it must be between 0 and 1")
setting("autoencoder_poolings", 7, "= 7; it must be from 1 to 5")
setting("initial_foreground", 1.0, "= 1.0; it must be between 0 and 1")
profile("a key that is no key", "unknown key 'row'", "known are", row=["chan_vese"])
profile("no `training`", "the key 'training' is missing", training=None)
profile("an unknown row", "unknown row 'cam'", "known are casm", rows=["cam"])
profile("an unknown data set", "unknown data set 'coco'", "known are cartoons", sets={"table1": "coco", "gallery": "coco"})
profile("a seed that is no number", "seeds = ['one']", "list of whole numbers", seeds=["one"])
profile("a value in per_row", "per_row: casm: epochs = 0", "greater than 0", per_row={"casm": {"epochs": 0}})
profile("an unknown data set in per_dataset", "unknown data set in per_dataset 'coco'", "known are cartoons",
        per_dataset={"coco": {"size": 64}})
profile("a size of its own for one row", "mumford_shah: size", "set it in training", per_row={"mumford_shah": {"size": 64}})


@case("settings", "a mini-batch of one small picture", "batch_size = 1", "at size 32", "write 2 or more")
def _(folder):
    os.environ["BIPARTITION_DATA"] = str(folder)
    single = Configuration(row="chan_vese", dataset="cartoons", seed=0, size=32, batch_size=1)
    train_row(single, prepare("cartoons", 32, {"train": 2, "val": 2}), folder / "run", profile="smoke")


@case("profile", "a file that is no YAML", "mine.yaml is not readable as YAML")
def _(folder):
    (folder / "mine.yaml").write_text("training: {size: 32", encoding="utf-8")
    load_profile(str(folder / "mine.yaml"))


@case("profile", "a setting under `per_row` that the row does not read", "per_row: chan_vese_only: judge", "does not read it",
      "take it out")
def _(folder):
    (folder / "mine.yaml").write_text(Path("profiles/smoke.yaml").read_text(encoding="utf-8")
                                      + "\nper_row: {chan_vese_only: {judge: live}}\n", encoding="utf-8")
    load_profile(str(folder / "mine.yaml"))


@case("profile", "`PROFILE=labtop`", "unknown profile 'labtop'", "laptop", ".yaml")
def _(folder):
    load_profile("labtop")


@case("profile", "a file name with a space", "a profile's name becomes a folder", "use letters")
def _(folder):
    (folder / "my profile.yaml").write_text(TINY, encoding="utf-8")
    load_profile(str(folder / "my profile.yaml"))


@case("command", "`SEEDS=one`", "seed 'one' is no whole number", 'SEEDS="0 1 2"')
def _(folder):
    request_for("smoke", seeds="one")


@case("command", "`ROWS=chanvese`", "unknown row: 'chanvese'", "known are casm")
def _(folder):
    request_for("smoke", rows="chanvese")


@case("command", "`DATASETS=voc2012` with the profile of cartoons", "in the profile 'smoke'", "'voc2012'", "known are cartoons")
def _(folder):
    request_for("smoke", datasets="voc2012")


@case("command", "`--steps drawings`", "unknown step: 'drawings'", "figures")
def _(folder):
    request_for("smoke", steps="drawings")


@case("command", "`make report PROFILE=laptop` with nothing there", "no run of the profile 'laptop'", "train one")
def _(folder):
    plan(request_for("laptop", steps="report"))


@case("command", "`BIPARTITION_NOTEBOOKS` names no folder", "BIPARTITION_NOTEBOOKS = '/nowhere'", "unset it")
def _(folder):
    os.environ["BIPARTITION_NOTEBOOKS"] = "/nowhere"
    plan(request_for("smoke", steps="data"))


@case("command", "a figure of no pictures", "pictures = 0", "whole number from 1")
def _(folder):
    choose([0, 1], 0)


@case("command", "`picture_seed = -1` of a figure", "picture_seed = -1", "whole number from 0")
def _(folder):
    choose([0, 1], 2, -1)


@case("command", "`make reproduce SEED=0`", "unknown variable SEED", "the variables are PROFILE SEEDS")
def _(folder):
    done = subprocess.run(["make", "-n", "reproduce", "SEED=0"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    raise RuntimeError(done.stderr.strip())


@case("command", "a trial that names no setting", "'alpha' changes nothing", "alpha=10")
def _(folder):
    _printed(lambda: trials_main(["--profile", "smoke", "--row", "chan_vese", "alpha"]))


@case("command", "a trial with a setting given twice", "alpha is given twice", "keep one of them")
def _(folder):
    _printed(lambda: trials_main(["--profile", "smoke", "--row", "chan_vese", "alpha=75", "alpha=80"]))


@case("command", "a trial of a warm-up without epochs", "warmup_epochs = 0", "must be greater than 0")
def _(folder):
    _printed(lambda: trials_main(["--profile", "smoke", "--row", "classifier", "warmup_epochs=0"]))


@case("command", "a notebook's parameter that it does not have", "02_train_row.ipynb has no parameter 'sead'",
      "its parameters are")
def _(folder):
    execute(ROOT / "notebooks" / "02_train_row.ipynb", folder / "copy.ipynb", {"sead": 0})


@case("data", "a data set that nobody knows", "there is no data set 'imagenet'", "the data sets are cartoons")
def _(folder):
    open_dataset("imagenet")


@case("data", "no pictures asked for", "train = 0 pictures of cartoons", "whole number from 1")
def _(folder):
    open_dataset("cartoons", train=0)


place_without_pictures("VOC_ROOT", "voc2012", "a folder without VOC", "holds no VOC2012", "name the folder VOCdevkit")


@case("data", "VOC without one of its lists", "there is no list", "val.txt", "unpack VOCtrainval_11-May-2012.tar completely")
def _(folder):
    os.environ["VOC_ROOT"] = str(write_voc(folder))
    (folder / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt").unlink()
    prepare("voc2012", 16)


place_without_pictures("DOGS_VS_CATS_ROOT", "dogs-vs-cats", "an empty folder", "holds neither train/",
                       "name the folder that does")
place_without_pictures("OXFORD_PETS_ROOT", "oxford-pets", "an empty folder", "does not hold images/",
                       "name the folder that does")


@case("data", "a photograph cut short", "1 of 20 pictures of dogs-vs-cats cannot be used", "cat.3", "replace these files")
def _(folder):
    path = write_dogs_vs_cats(folder) / "train" / "cat.3.jpg"
    path.write_bytes(path.read_bytes()[:200])
    os.environ["DOGS_VS_CATS_ROOT"] = str(folder)
    prepare("dogs-vs-cats", 16)


@case("data", "a trimap with an unknown code", "trimaps/", "holds [7]", "codes are 1 object, 2 background, 3 undecided",
      "replace")
def _(folder):
    root = write_oxford_pets(folder)
    trimap = next((root / "annotations" / "trimaps").glob("[!.]*.png"))
    codes = np.array(Image.open(trimap))
    codes[0, 0] = 7
    Image.fromarray(codes).save(trimap)
    os.environ["OXFORD_PETS_ROOT"] = str(root)
    prepare("oxford-pets", 16)


@case("data", "photographs of one class", "dogs-vs-cats has pictures of one class only, dog", "add pictures of another")
def _(folder):
    for cat in (write_dogs_vs_cats(folder) / "train").glob("cat.*"):
        cat.unlink()
    os.environ |= {"BIPARTITION_DATA": str(folder), "DOGS_VS_CATS_ROOT": str(folder)}
    dogs = Configuration(row="chan_vese", dataset="dogs-vs-cats", seed=0, size=32)
    train_row(dogs, prepare("dogs-vs-cats", 32), folder / "run", profile="smoke")


@case("data", "an archive that writes beside its folder", "is refused", "'../outside'")
def _(folder):
    import tarfile
    with tarfile.open(folder / "bad.tar", "w") as archive:
        add_member(archive, "../outside", b"!")
    unpack(folder / "bad.tar", folder / "target")


@case("data", "a data set that cannot be downloaded", "'coco' cannot be downloaded", "what can is voc2012")
def _(folder):
    fetch("coco")


@case("data", "a data set of one's own, and SHAPES_ROOT is not set", "'shapes' cannot be downloaded",
      "set SHAPES_ROOT to its folder")
def _(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIABLES, "shapes", "SHAPES_ROOT")
        located("shapes")


CODES = {0: "background", 1: "cat", 255: "void"}


@case("masks", "a mask in colours", "is RGB", "palette indices are classes")
def _(folder):
    Image.new("RGB", (8, 8)).save(folder / "mask.png")
    read_mask(folder / "mask.png", 8, codes=CODES, expected=(8, 8))


@case("masks", "a mask of another size than its photograph", "is 8 x 8", "16 x 8", "must be equal")
def _(folder):
    Image.new("L", (8, 8)).save(folder / "mask.png")
    read_mask(folder / "mask.png", 8, codes=CODES, expected=(16, 8))


@case("masks", "a code beyond the classes", "holds [77]", "codes are 0 background, 1 cat, 255 void")
def _(folder):
    Image.new("L", (8, 8), 77).save(folder / "mask.png")
    read_mask(folder / "mask.png", 8, codes=CODES, expected=(8, 8))


@case("masks", "masks that are no bytes", "masks are float64 of shape (3, 4, 4)", "expected uint8 of shape (3, S, S)")
def _(folder):
    from types import SimpleNamespace
    split = SimpleNamespace(masks=None, labels=np.zeros(3, int), truth_codes=np.ones(3, int), ids=list("abc"))
    evaluate(np.ones((3, 4, 4)), split, ["dog"])


@case("masks", "phi of another shape than the picture", "background_mask has shape (2, 4, 4)", "must be (2, 1, 4, 4)")
def _(folder):
    chan_vese(torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4))


@case("masks", "the background's scores of one class", "background_logits has shape (4, 1)", "at least 2 classes")
def _(folder):
    background_loss(torch.zeros(4, 1))


@case("weights", "RESNET18_WEIGHTS names no file", "RESNET18_WEIGHTS", "nowhere.pth", "there is no such file", "unset it")
def _(folder):
    os.environ["RESNET18_WEIGHTS"] = str(folder / "nowhere.pth")
    runs.weights_source(Configuration(row="chan_vese", dataset="cartoons", seed=0))


@case("weights", "a file that is no state dict", "photo.pth", "is not a PyTorch state dict", "unset RESNET18_WEIGHTS")
def _(folder):
    (folder / "photo.pth").write_bytes(b"\xff\xd8\xff\xe0 a photograph")
    Classifier(6, folder / "photo.pth")


@case("weights", "a file that would run code", "is not a PyTorch state dict", "UnpicklingError")
def _(folder):
    import pickle

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(folder / "it-ran"),)

    with open(folder / "trap.pth", "wb") as stream:
        pickle.dump({"conv1.weight": Trap()}, stream, protocol=2)
    try:
        Classifier(6, folder / "trap.pth")
    finally:
        assert not (folder / "it-ran").exists()


@case("weights", "the weights of another network", "is not a ResNet-18 of torchvision", "missing", "features.0.weight")
def _(folder):
    torch.save({"features.0.weight": torch.zeros(1)}, folder / "vgg.pth")
    Classifier(6, folder / "vgg.pth")


@case("weights", "none on this disk, and no network", "no mirror gave resnet18-f37072fd.pth", "127.0.0.1:9",
      "RESNET18_WEIGHTS=")
def _(folder):
    os.environ |= {"XDG_CACHE_HOME": str(folder), "TORCH_HOME": str(folder)}
    unreachable = dataclasses.replace(ARCHIVES["resnet18"], mirrors=("http://127.0.0.1:9/",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHIVES, "resnet18", unreachable)
        imagenet_weights()


@case("places", "pictures of another size than the run's", "asks for pictures of size 64", "holds size 32",
      "prepare cartoons at 64")
def _(folder):
    os.environ["BIPARTITION_DATA"] = str(folder)
    prepared = prepare("cartoons", 32, {"train": 2, "val": 2})
    train_row(Configuration(row="chan_vese", dataset="cartoons", seed=0, size=64), prepared, folder / "run", profile="smoke")


@case("places", "a results folder that is a file", "cannot write", "results.txt", "check the folder and its permissions")
def _(folder):
    (folder / "results.txt").write_text("a file", encoding="utf-8")
    files.write_text(folder / "results.txt" / "table1.csv", "x")


@case("places", "BIPARTITION_DATA is a file", "cannot read", "Not a directory", "BIPARTITION_DATA")
def _(folder):
    (folder / "data").write_text("a file", encoding="utf-8")
    prepared_before("cartoons", 32, {}, "stamp")


@case("places", "a file in place of a run's folder", "seed0 is a file", "move it away")
def _(folder):
    os.environ["BIPARTITION_DATA"] = str(folder)
    (folder / "seed0").write_text("a file", encoding="utf-8")
    alone = Configuration(row="chan_vese_only", dataset="cartoons", seed=0, size=32, autoencoder_width=4)
    train_row(alone, prepare("cartoons", 32, {"train": 2, "val": 2}), folder / "seed0", profile="bad")


@case("places", "a broken JSON file of a run", "config.json is not readable as JSON", "delete it to make it again")
def _(folder):
    (folder / "config.json").write_text("{", encoding="utf-8")
    files.read_json(folder / "config.json")


@case("device", "`ACCELERATE_TORCH_DEVICE=cuda` with all cards hidden", "ACCELERATE_TORCH_DEVICE = 'cuda'",
      "CUDA_VISIBLE_DEVICES = ''", "unset ACCELERATE_TORCH_DEVICE")
def _(folder):
    os.environ |= {"ACCELERATE_TORCH_DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": ""}
    accelerator_for_this_machine()


@case("device", "`ACCELERATE_TORCH_DEVICE=cuda` with a driver of earlier", "ACCELERATE_TORCH_DEVICE = 'cuda'",
      "driver on your system is too old (found version 11040)", "unset ACCELERATE_TORCH_DEVICE")
def _(folder):
    def refuse():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).")  # as PyTorch says it

    os.environ["ACCELERATE_TORCH_DEVICE"] = "cuda"
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(torch.cuda, "init", refuse)
        accelerator_for_this_machine()


@case("device", "mini-batches that the card's memory does not hold", "does not hold pictures of 32 x 32", "batch_size = 4",
      "write warmup_batch_size: 2 in the profile")
def _(folder):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")
    configuration = Configuration(row="chan_vese", dataset="cartoons", seed=0, size=32, weights="none", warmup_epochs=1,
                                  warmup_batch_size=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bipartition.training.train_epoch", full)
        train_row(configuration, prepare("cartoons", 32, {"train": 8, "val": 4}), folder / "chan_vese" / "seed0", profile="bad")


def _printed(call):
    """Raise what a command line prints as its error."""
    import contextlib
    import io
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = call()
    if status:
        raise RuntimeError(said.getvalue().strip().removeprefix("error: "))


def message(one: Case, folder: Path) -> str:
    """What is said in this case, with the folder's name taken out."""
    before = dict(os.environ)
    os.environ["BIPARTITION_RESULTS"] = str(folder / "results")
    os.environ["BIPARTITION_DATA"] = str(folder / "data")
    try:
        one.act(folder)
    except Exception as error:
        return re.sub(r"\s+", " ", str(error)).replace(str(folder), "…").replace(str(ROOT), "…")
    finally:
        os.environ.clear()
        os.environ.update(before)
    raise AssertionError(f"nothing is said of {one.wrong}")


def line(one: Case, said: str) -> str:
    """Of the page."""
    return f"| {one.of} | {one.wrong} | {said.replace('|', chr(92) + '|')} |"


def without_numbers(text: str) -> str:
    """Versions, keys, processors and lines of the Makefile differ from place to place, and urllib3 names its objects anew.

    A list of three names or more may be another one: whoever adds a row, a setting or a data set need not touch the page.
    """
    text = re.sub(r"NewConnectionError\(.*?(: Failed .*? refused).*?\)\)", r"NewConnectionError\1", text)
    text = re.sub(r"'?[a-z][\w'-]+(, '?[a-z][\w'-]+){2,}|[A-Z][A-Z\d_]+( [A-Z][A-Z\d_]+){2,}", "names", text)
    return re.sub(r"[0-9a-f]{12,}|\d+(\.\d+)*(\+\w+)?", "#", text).replace("threads", "thread")


@pytest.mark.parametrize("one", CASES, ids=[f"{one.of}: {one.wrong}" for one in CASES])
def test_the_message_names_the_thing_the_value_and_the_way_out(one, tmp_path, record_property):
    said = message(one, tmp_path)
    record_property("message", said)
    assert not [word for word in one.words if word not in said], said
    published = map(without_numbers, PAGE.read_text(encoding="utf-8").splitlines())
    assert without_numbers(line(one, said)) in published, "run `.venv/bin/python tests/test_bad_input.py` and look at the page"


def test_there_are_thirty_cases_and_a_line_for_each():
    lines = PAGE.read_text(encoding="utf-8").removeprefix(HEAD).splitlines()
    assert len(CASES) >= 30 and len(lines) == len(CASES)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        said_of_all = []
        for number, each in enumerate(CASES):
            own = Path(place) / str(number)
            own.mkdir()
            said_of_all.append(line(each, message(each, own)))
    PAGE.write_text(HEAD + "\n".join(said_of_all) + "\n", encoding="utf-8")
