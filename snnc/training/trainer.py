"""Train a network on labeled images, epoch after epoch, so that it can be stopped and taken up again."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from snnc.data.store import FeedsStore
from snnc.errors import DataError, PreconditionError, SnncError, StoppedError, UsageError
from snnc.feeds import Feeds
from snnc.ir import Graph
from snnc.process import interruptible
from snnc.processes import Processes
from snnc.run import Program
from snnc.tasks import Answers, Task, joined, picked
from snnc.training.checkpoint import Checkpoint, save
from snnc.training.network import TrainableNetwork, unique
from snnc.training.optimization import rising_cosine
from snnc.training.settings import Training
from snnc.training.units import units
from snnc.training.variation import Variation

# Images at once where nothing is learned.
_IMAGES = 256
_MOMENTUM = 0.9
# What the running mean of lookahead keeps of itself in a step near the end.
_KEPT = 0.95


@dataclass(frozen=True, eq=False)
class Labeled:
    """Samples with labels, and which of them are trained on and which are held out."""

    samples: FeedsStore
    labels: Answers
    training: Tensor
    held_out: Tensor


class Noise:
    """Noise on activations, a − σ·ε with σ the residual of the spiking layer (Huang et al., TNNLS 2025)."""

    def __init__(self, processes: Processes, device: torch.device) -> None:
        self.strengths: dict[str, float] = {}
        self._processes = processes
        self._generator = Generator(device)

    def reseed(self, seed: int) -> None:
        """Begin the draws of another step."""
        self._generator.manual_seed(seed)

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Return an activation's answer, disturbed."""
        strength = self.strengths.get(name, 0.0)
        if not strength:
            return value
        # Drawn for the images of all processes, so that their number changes nothing.
        shape = (len(value) * self._processes.count, *value.shape[1:])
        drawn = torch.randn(shape, generator=self._generator, device=value.device, dtype=torch.float32)
        return value - strength * drawn[self._processes.share(len(drawn))].to(value.dtype)


@dataclass(frozen=True, eq=False)
class Outcome:
    """The best network, its score on the samples held out (None where the task has none), and a row for each epoch.

    It is the ``start`` where no epoch was better.
    """

    graph: Graph
    score: float | None
    start: bool
    history: tuple[Mapping[str, float], ...]


class Trainer:
    """One training of one network.

    ``reference`` is the trained network that is compared with, where ``settings`` ask for that. ``measured`` returns
    the strength of the noise by activation, called after every epoch; None without noise. The ``task`` says what is
    learned from the labels, and by which score epochs are told apart; of equal ones, or without, by the loss.
    ``identity`` names what a checkpoint belongs to. ``after_epoch`` is told the rows of the history so far.
    """

    def __init__(
        self,
        network: TrainableNetwork,
        reference: Graph,
        data: Labeled,
        settings: Training,
        *,
        task: Task,
        variation: Variation,
        noise: Noise,
        measured: Callable[[Graph], dict[str, float]] | None,
        processes: Processes,
        device: torch.device,
        identity: dict[str, str],
        checkpoint: Path | None,
        progress: Callable[[str, int, int], None],
        after_epoch: Callable[[Sequence[Mapping[str, float]]], None],
    ) -> None:
        self._network = network
        self._data = data
        self._settings = settings
        self._task = task
        self._variation = variation
        self._noise = noise
        self._measured = measured
        self._processes = processes
        self._device = device
        self._identity = identity
        self._path = checkpoint
        self._progress = progress
        self._after_epoch = after_epoch
        self._batch = min(settings.batch_size, len(data.training))
        if self._batch % processes.count:
            hint = f"give a multiple of {processes.count}, the number of processes"
            message = f"steps of {self._batch} images cannot be shared evenly"
            raise UsageError(message, place="training.batch-size", hint=hint)
        self._epoch_steps = max(1, len(data.training) // self._batch)
        self._steps = self._epoch_steps * settings.epochs
        self._optimizer = _optimizer(network, settings)
        self._module: Any = (
            network if processes.count == 1 else DistributedDataParallel(network, broadcast_buffers=False)
        )
        self._autocast = _precision(settings, device)
        self._outputs = task.judged(reference.outputs)
        # Outputs themselves are compared as the task does.
        ends = [unit.activation for unit in units(reference) if settings.features]
        known = network.graph().nodes
        self._features = [name for name in ends if name is not None and name in known and name not in self._outputs]
        self._goals = Program(reference, want=[*self._outputs, *self._features])
        self._losses = 0.0
        self._best: dict[str, Tensor] | None = None
        self._mean = self._copied() if settings.lookahead else {}
        self._score = (-math.inf, -math.inf)
        self._history: list[dict[str, float]] = []
        self._kept = False

    def train(self, state: Checkpoint | None = None) -> Outcome:
        """Train from the start, or from a state reached before.

        Until the end, or until a signal asks to stop: StoppedError, after a checkpoint is written. Raises
        PreconditionError, naming the layer, where the loss or the network is no longer finite.
        """
        step = 0 if state is None else self._resumed(state)
        if state is None:
            # What no epoch is better than is kept.
            score, lost = self._judged()
            self._keep((0.0 if math.isnan(score) else score, -lost))
        # The rate of step n is rate · rising_cosine(n / steps), whether it is the first one here or not.
        schedule = LambdaLR(self._optimizer, self._rate)
        schedule.last_epoch = step
        for group in self._optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self._rate(step)
        with interruptible() as interruption, interruption.ends_by_itself() as stop:
            while step < self._steps:
                epoch, index = divmod(step, self._epoch_steps)
                if index == 0:
                    self._losses = 0.0
                asked = self._step(step, self._chosen(epoch, index), stopping=stop.is_set())
                schedule.step()
                step += 1
                self._look_back(step)
                if step % self._epoch_steps == 0:
                    self._finish(epoch, step)
                    self._record(partial(self._save, step))
                    self._record(partial(self._after_epoch, tuple(self._history)))
                elif asked:
                    self._record(partial(self._save, step))
                if asked and step < self._steps:
                    raise self._stopped(step)
        assert self._best is not None
        self._network.load_state_dict(self._best)
        reached = [(row.get(self._column, 0.0), -row["held_out_loss"]) for row in self._history]
        start = self._score not in reached
        return Outcome(self._network.graph(), self._known(self._score[0]), start, tuple(self._history))

    def _stopped(self, step: int) -> StoppedError:
        place = "" if self._path is None else str(self._path)
        hint = "go on with --resume" if place else "give --checkpoint FILE to be able to go on"
        return StoppedError(f"stopped after {step} of {self._steps} steps", place=place, hint=hint)

    def _rate(self, step: int) -> float:
        return rising_cosine(step / self._steps, self._settings.warm_up)

    def _chosen(self, epoch: int, index: int) -> Tensor:
        """Return the images of one step: each at most once an epoch, in an order of the epoch's own."""
        generator = Generator().manual_seed(_seed(self._settings.seed, epoch, "order"))
        order = self._data.training[torch.randperm(len(self._data.training), generator=generator)]
        return order[index * self._batch : (index + 1) * self._batch]

    def _step(self, step: int, chosen: Tensor, *, stopping: bool) -> bool:
        """Learn from some images; returns whether any process was asked to stop."""
        seed = _seed(self._settings.seed, step, "step")
        self._noise.reseed(seed)
        mine = self._processes.share(len(chosen))
        # Varied as they are for all processes, so that their number changes nothing.
        feeds = self._variation(self._data.samples[chosen].to(self._device), seed).part(mine.start, mine.stop)
        self._network.train()
        loss = self._loss(feeds, _on(self._device, picked(self._data.labels, chosen[mine])))
        # All processes have to agree on what comes next.
        told = self._processes.mean(torch.stack([loss.detach(), loss.new_tensor(float(stopping))]))
        value, asked = float(told[0]), bool(told[1] > 0)
        if not math.isfinite(value):
            raise self._diverged(feeds)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._check(feeds)
        self._losses += value
        done = step % self._epoch_steps + 1
        best = self._known(self._score[0])
        shown = "-" if not self._history else f"loss {-self._score[1]:.3f}" if best is None else f"{best:.1f} %"
        epoch = f"epoch {step // self._epoch_steps + 1}/{self._settings.epochs}"
        self._progress(f"{epoch}, loss {self._losses / done:.3f}, held out {shown}", step + 1, self._steps)
        return asked

    @torch.no_grad()
    def _look_back(self, step: int) -> None:
        """Let the running mean follow, and take its place, where the step is one of those that ``lookahead`` names."""
        every = self._settings.lookahead
        last = step == self._steps
        # In the last step there has to be a mean to go back to.
        if not every or self._steps <= every or (step % every and not last):
            return
        kept = 1.0 if last else _KEPT**every * (step / self._steps) ** 3
        for name, tensor in self._network.state_dict().items():
            tensor.copy_(self._mean[name].lerp_(tensor, 1 - kept))

    def _known(self, score: float) -> float | None:
        """Return a score, None where the task has none."""
        return score if self._history and self._column in self._history[-1] else None

    @property
    def _column(self) -> str:
        """What the history calls the score of the samples held out."""
        return f"held_out_{self._task.score_name.replace(' ', '_').lower()}"

    def _loss(self, feeds: Feeds, labels: Answers) -> Tensor:
        share = self._settings.distillation
        names = (*self._outputs, *self._features)
        with self._autocast():
            reached = self._module(feeds, names)
        outputs = [reached[name] for name in self._outputs]
        loss = self._task.training_loss(outputs, labels, self._settings.label_smoothing)
        if not share and not self._features:
            return loss
        wanted = self._goals(feeds)
        answers = [wanted[name][0] for name in self._outputs]
        distance = self._task.distillation(outputs, answers, self._settings.temperature) if share else None
        if distance is not None:
            loss = loss * (1 - share) + distance * share
        if self._features:
            goals = [wanted[name][0] for name in self._features]
            apart = torch.stack([F.mse_loss(reached[n].float(), g) for n, g in zip(self._features, goals, strict=True)])
            # Relative to the images of all processes, so that their mean is what one process would get.
            sizes = self._processes.mean(torch.stack([goal.square().mean() for goal in goals])).clamp(min=1e-12)
            loss = loss + (apart / sizes).mean() * self._settings.features
        return loss

    @torch.no_grad()
    def _finish(self, epoch: int, step: int) -> None:
        """Look at the images held out, keep the network where it is the best so far, and measure the noise anew."""
        score, lost = self._judged()
        known = not math.isnan(score)
        self._check(self._data.samples[self._data.held_out[:_IMAGES]].to(self._device), lost)
        if (score if known else 0.0, -lost) > self._score:
            self._keep((score if known else 0.0, -lost))
        if self._measured is not None:
            measured = self._measured(self._network.graph())
            agreed = self._processes.mean(torch.tensor(list(measured.values()), device=self._device)).tolist()
            self._noise.strengths = dict(zip(measured, agreed, strict=True))
        row = {
            "epoch": float(epoch + 1),
            "step": float(step),
            "learning_rate": self._settings.learning_rate * self._rate(step - 1),
            "loss": self._losses / self._epoch_steps,
            "held_out_loss": lost,
        }
        if known:
            row[self._column] = score
        if self._noise.strengths:
            row["noise"] = sum(self._noise.strengths.values()) / len(self._noise.strengths)
        self._history.append(row)

    @torch.no_grad()
    def _judged(self) -> tuple[float, float]:
        """Return the score (NaN where the task has none) and the loss on the samples held out."""
        self._network.eval()

        def outputs() -> Iterator[Sequence[Tensor]]:
            for part in torch.split(self._data.held_out, _IMAGES):
                found = self._network(self._data.samples[part].to(self._device), self._outputs)
                yield [found[name].cpu() for name in self._outputs]

        judged = judge(self._task, outputs(), picked(self._data.labels, self._data.held_out))
        # All processes look at the same images; that they round alike is not said.
        both = torch.tensor(judged, device=self._device, dtype=torch.float64)
        score, lost = self._processes.mean(both).tolist()
        return score, lost

    def _keep(self, score: tuple[float, float]) -> None:
        self._score = score
        self._best = self._copied()

    def _copied(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self._network.state_dict().items()}

    def _record(self, write: Callable[[], None]) -> None:
        """Let the first process write, and all of them fail where it fails."""
        failure: SnncError | None = None
        if self._processes.first:
            try:
                write()
            except SnncError as error:
                failure = error
        failed = self._processes.mean(torch.tensor(float(failure is not None), device=self._device))
        if failure is not None:
            raise failure
        if failed > 0:
            raise DataError("the first process could not write", hint="see its message")

    def _save(self, step: int) -> None:
        if self._path is None:
            return
        self._kept = True
        save(
            Checkpoint(
                identity=self._identity,
                step=step,
                network=self._network.state_dict(),
                optimizer=self._optimizer.state_dict(),
                best=self._best,
                mean=self._mean,
                score=self._score,
                losses=self._losses,
                noise=self._noise.strengths,
                history=self._history,
            ),
            self._path,
        )

    def _resumed(self, state: Checkpoint) -> int:
        self._network.load_state_dict(state.network)
        self._optimizer.load_state_dict(state.optimizer)
        self._best, self._score, self._losses = state.best, state.score, state.losses
        self._mean = {name: tensor.to(self._device) for name, tensor in state.mean.items()}
        self._noise.strengths, self._history = dict(state.noise), list(state.history)
        self._kept = True
        return state.step

    def _check(self, feeds: Feeds, loss: float = 0.0) -> None:
        """Raise PreconditionError where the network, or what it just lost, is no longer finite."""
        finite = torch.stack([tensor.isfinite().all() for tensor in self._network.state_dict().values()]).all()
        if not finite or not math.isfinite(loss):
            raise self._diverged(feeds)

    def _diverged(self, feeds: Feeds) -> PreconditionError:
        """Return the error that names the first layer that is no longer finite."""
        kept = f"the last checkpoint is kept in {self._path}; " if self._kept else ""
        hint = f"{kept}set a smaller rate: --set training.learning-rate=RATE"
        state = self._network.state_dict()
        broken = [key.partition(":")[0] for key, tensor in state.items() if not bool(tensor.isfinite().all())]
        if not broken:
            now = self._network.graph()
            values = Program(now, want=now.nodes)(feeds)
            broken = [name for name in now.nodes if not bool(values[name].isfinite().all())]
        place = broken[0] if broken else self._outputs[0]
        return PreconditionError("the loss is no longer a number", place=place, hint=hint)


def judge(task: Task, outputs: Iterable[Sequence[Tensor]], labels: Answers) -> tuple[float, float]:
    """Return the score of outputs (NaN where the task has none) and the mean loss, from those of several groups."""
    outcomes, lost, seen = [], 0.0, 0
    for group in outputs:
        answers = task.answers(group)
        truth = labels[seen : seen + len(answers)]
        outcomes.append(task.outcomes(answers, answers, truth))
        lost += float(task.training_loss(group, truth)) * len(answers)
        seen += len(answers)
    return task.reference(joined(outcomes)).get(task.score_name, math.nan), lost / seen


def _on(device: torch.device, answers: Answers) -> Answers:
    return answers.to(device) if isinstance(answers, Tensor) else answers


def _optimizer(network: TrainableNetwork, settings: Training) -> Optimizer:
    """Return the optimizer of what has gradients: weights decay, nothing else does."""
    layers, norms = network.layers.values(), network.norms.values()
    parts: list[tuple[Iterable[Tensor], float, float]] = [
        ((layer.weight for layer in layers), 1.0, settings.weight_decay),
        ((layer.bias for layer in layers if layer.bias is not None), 1.0, 0.0),
        ((norm.scale for norm in norms), 1.0, 0.0),
        ((norm.shift for norm in norms), settings.shift_rate, 0.0),
        (network.thresholds.values(), settings.threshold_rate, 0.0),
    ]
    groups = []
    known: set[int] = set()
    for tensors, rate, decay in parts:
        # A tensor may be shared, and by what is of another kind.
        own = [tensor for tensor in unique(tensors) if tensor.requires_grad and id(tensor) not in known]
        known.update(map(id, own))
        if own:
            groups.append({"params": own, "weight_decay": decay, "lr": settings.learning_rate * rate})
    if settings.optimizer == "sgd":
        return SGD(groups, lr=settings.learning_rate, momentum=_MOMENTUM, nesterov=True)
    return AdamW(groups, lr=settings.learning_rate)


def _precision(settings: Training, device: torch.device) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if settings.precision == "bfloat16" or (settings.precision == "auto" and able):
        return lambda: torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext


def _seed(seed: int, number: int, purpose: str) -> int:
    """Return a seed of its own for every step or epoch, so that a training taken up again draws what it would have."""
    return (seed * 1_000_003 + number * 2 + (purpose == "step")) % 2**63
