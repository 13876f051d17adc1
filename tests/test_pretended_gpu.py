"""Every row's epoch on tensors that say they are on a GPU and hold no numbers: nothing is mixed with the CPU's, nothing waits.

PyTorch's fake tensors know their shape, type and device, and refuse an operation on two devices as a GPU would.  What they
cannot show is what a GPU computes; and a backward pass, which asks for a real one, is left out: nothing here defines its own.
"""

import collections
import contextlib
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode

from bipartition import epochs
from bipartition.configuration import Configuration
from bipartition.cuts import cuts_of_some
from bipartition.epochs import Material, judges_turn, schedulers_for, train_epoch
from bipartition.learners import build_learner
from bipartition.networks import Classifier
from bipartition.prediction import predict
from bipartition.rows import ROWS, WARM_UP

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
SIZE, BATCH, CLASSES = 32, 4, 3
CHECKED_EVERY, STEPS = 2, 3
READINGS = {
    "warmup_cuts": {"row": WARM_UP, "warmup_cuts": 0.5, "warmup_contours": 0.8, "crops": 0.5},
    "snapshot": {"row": "chan_vese", "judge": "snapshot", "judge_crops": 0.1, "area_weight": "root", "batch_norm": "frozen"},
    "straight_through": {"row": "chan_vese", "mask": "straight_through", "batch_norm": "separate", "area_weight": "share"},
    "mask": {"row": "mumford_shah", "classifier_learns": "mask", "features": "even", "background_probability": "sigmoid"},
    "foreground": {"row": "mumford_shah", "classifier_learns": "foreground", "crops": 0.5, "optimiser": "sgd"},
    "nothing": {"row": "classification_only", "classifier_learns": "nothing", "regularised": False},
    "turns": {"row": "chan_vese", "judge": "turns", "judge_turns": 1, "epochs": 2, "warmup_batch_size": BATCH},
}


class OneMode(FakeTensorMode):
    """A deep copy of a fake tensor, as a judge is one, copies the mode too; two modes cannot work together."""

    def __deepcopy__(self, memo):
        return self


class Looks(TorchDispatchMode):
    """Counts what the CPU waits for: numbers that are brought back from the GPU, and others that it has to have first.

    As there are no numbers, a look gives 1, True or the number 0, and a copy is all zeros.
    """

    def __init__(self):
        super().__init__()
        self.count = collections.Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            if args[0].device.type == "cuda":
                self.count["looks"] += 1
            return {torch.bool: True, torch.int64: 0}.get(args[0].dtype, 1.0)
        if function is torch.ops.aten._fused_sgd_.default:  # PyTorch has no fake one; it changes its arguments in place
            assert {tensor.device.type for tensors in args[:3] for tensor in tensors} == {"cuda"}
            return None
        if function is torch.ops.aten.detach.default and not isinstance(args[0], FakeTensor):  # on its way to NumPy
            with unset_fake_temporarily():
                return args[0].detach()
        if function is torch.ops.aten._pin_memory.default:  # there is none without a driver
            answer = args[0].clone()
            answer.pinned = True
            return answer
        answer = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default and args[0].device != answer.device:
            waits = not ((kwargs or {}).get("non_blocking") and getattr(args[0], "pinned", False))
            self.count["back" if answer.device.type == "cpu" else "there" if waits else "sent"] += 1
            if answer.device.type == "cpu":
                with unset_fake_temporarily():
                    return torch.zeros(answer.shape, dtype=answer.dtype)
        return answer


class PretendedAccelerator:
    """What a learner asks of Accelerate, on a card that is not there."""

    device = torch.device("cuda:0")
    process_index, num_processes, is_main_process = 0, 1, True

    def autocast(self):
        with pytest.MonkeyPatch.context() as patch:  # where there is no card, autocast would refuse to be one
            patch.setattr(torch.cuda, "is_available", lambda: True)
            patch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
            return torch.autocast("cuda", dtype=torch.bfloat16)

    clip_grad_norm_ = staticmethod(torch.nn.utils.clip_grad_norm_)

    def backward(self, loss):
        assert loss.device == self.device and loss.dtype == torch.float32 and loss.shape == ()
        for parameter in self.learning:
            parameter.grad = torch.zeros_like(parameter)


@pytest.fixture
def looks(monkeypatch):
    monkeypatch.setattr(epochs, "CHECKED_EVERY", CHECKED_EVERY)
    looks = Looks()
    with contextlib.ExitStack() as pretended:
        pretended.enter_context(OneMode())
        pretended.enter_context(looks)
        yield looks


def learner_for(**settings):
    configuration = Configuration(**{"dataset": "cartoons", "seed": 0, "size": SIZE, "batch_size": BATCH, "weights": "none",
                                     "autoencoder_width": 4, "autoencoder_poolings": 3, "epochs": 1} | settings)
    accelerator = PretendedAccelerator()
    with torch.device(accelerator.device):
        learner = build_learner(configuration, Classifier(CLASSES), accelerator)
    accelerator.learning = list(learner.network.parameters())
    return learner, configuration


def material():
    count = BATCH * STEPS
    return Material(pictures=torch.zeros(count, 3, SIZE, SIZE, dtype=torch.uint8, device="cuda"),
                    labels=torch.zeros(count, dtype=torch.long, device="cuda"), ids=[str(index) for index in range(count)])


@pytest.mark.parametrize("settings", [{"row": row} for row in (WARM_UP, *ROWS)] + list(READINGS.values()),
                         ids=[WARM_UP, *ROWS, *READINGS])
def test_an_epoch_looks_at_losses_as_rarely_as_it_says(settings, looks):
    learner, configuration = learner_for(**settings)
    schedulers = schedulers_for(learner, STEPS)
    looks.count.clear()
    means = train_epoch(learner, material(), configuration, 0, STEPS, schedulers)
    assert looks.count["looks"] == math.ceil(STEPS / CHECKED_EVERY) + 1 + len(means)  # losses, weights, means
    assert looks.count["back"] == looks.count["there"] == 0


def test_a_judges_turn_looks_as_rarely(looks):
    learner, configuration = learner_for(**READINGS["turns"])
    looks.count.clear()
    means = judges_turn(learner, material(), configuration, epoch=1)
    assert looks.count["looks"] == 2 * (math.ceil(STEPS / CHECKED_EVERY) + 1 + len(means))
    assert looks.count["back"] == looks.count["there"] == 0


@pytest.mark.parametrize("row", [WARM_UP, *ROWS])
def test_masks_and_scores_come_back_once_for_each_batch(row, looks):
    learner, _ = learner_for(row=row)
    looks.count.clear()
    masks, scores = predict(learner, np.zeros((10, 3, SIZE, SIZE), np.uint8), learner.accelerator, batch_size=4)
    has_scores = scores is not None
    assert masks.shape == (10, SIZE, SIZE) and (not has_scores or scores.shape == (10, CLASSES))
    assert looks.count == {"there": 3, "back": 3 + 3 * has_scores}


class Calls(TorchDispatchMode):
    """Remembers of each call what it is called and what it answers."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        answer = function(*args, **(kwargs or {}))
        if isinstance(answer, torch.Tensor):
            self.seen.append((function.overloadpacket.__name__, answer))
        return answer

    def answers(self, name):
        return [answer for called, answer in self.seen if called == name]


@pytest.mark.parametrize("row", ["mumford_shah", "casm"])
def test_decoders_join_maps_in_half_precision_and_convolve_in_one_call(row, looks):
    # CUDA's autocast upsamples in float32; the way back through `fold` would take a call for each picture
    learner, _ = learner_for(row=row)
    image = torch.zeros(BATCH, 3, SIZE, SIZE, device="cuda")
    with Calls() as calls, learner.accelerator.autocast():
        learner.network.segment(image)
    joined = [answer for answer in calls.answers("cat") if len(answer) == BATCH and answer.shape[1] > 100]
    assert joined and {answer.dtype for answer in joined} == {torch.bfloat16}
    assert calls.answers("upsample_bilinear2d")[0].dtype == torch.float32
    assert not calls.answers("col2im")


def test_random_cuts_are_made_large_on_the_gpu(looks):
    image = torch.zeros(BATCH, 3, SIZE, SIZE, device="cuda")
    with Calls() as calls:
        cuts_of_some(image, 0.5, torch.Generator(), contours=0.8)
    assert {answer.device.type for answer in calls.answers("upsample_bicubic2d")} == {"cuda"}


def test_a_number_of_the_cpu_among_those_of_the_gpu_is_noticed(looks):
    learner, configuration = learner_for(row="chan_vese")
    wrong = material()
    wrong = dataclasses.replace(wrong, labels=wrong.labels.to("cpu"))
    with pytest.raises(RuntimeError, match="same device|two different devices"):
        train_epoch(learner, wrong, configuration, 0, STEPS, {})


def test_a_look_in_each_step_is_noticed(looks, monkeypatch):
    learner, configuration = learner_for(row="chan_vese_only")
    step = learner.step
    monkeypatch.setattr(learner, "step", lambda *seen: {name: one * float(one.detach()) for name, one in step(*seen).items()})
    means = train_epoch(learner, material(), configuration, 0, STEPS, {})
    assert looks.count["looks"] >= len(means) * STEPS
