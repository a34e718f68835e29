"""Whether data are what a trained network expects: by what it says of its training, and by how sure it is of them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Literal

import torch

from snnc import intervals
from snnc.analysis.channels import channel_rows
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import Samples
from snnc.errors import DataError
from snnc.feeds import Feeds
from snnc.findings import Finding
from snnc.ir import Graph, Input
from snnc.ops import Activation, BatchNorm, Nonlinear
from snnc.run import Program
from snnc.tasks import Answers, Task, joined
from snnc.tasks.classification import Classification
from snnc.text import number, percent, written

# So many samples say how data lie, how sure a network is, and how good.
_SOME, _MORE, _MANY = 64, 256, 1000
# Of channels, the middle one is so many standard deviations off, or so many times as wide or as narrow.
_FAR, _WIDE = 1.0, 1.8
# No image is this far from 0 once it is scaled.
_LARGE = 30.0
# Answers of which a network is less sure than that, or surer than it is right, in shares.
_UNSURE, _TOO_SURE = 0.3, 0.2
# Means and deviations that are usual in training; so many points more than as it is read are told.
_BETTER = 5.0
_USUAL: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = (
    ((), ()),
    ((0.5,), (0.5,)),
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
    ((0.1307,), (0.3081,)),
)
_SWAPPED: Mapping[str, Literal["rgb", "bgr", "gray"]] = {"rgb": "bgr", "bgr": "rgb", "gray": "gray"}
# Fewer answers say nothing of how sure a network is.
_FEW = 50


def unlike_training(reference: Graph, samples: Samples, preprocessing: Preprocessing) -> Iterator[Finding]:
    """Yield the finding on data that are far from what the first batch normalization of a network saw in training.

    Where there is none, or it states nothing, on values too large for images that are scaled.
    """
    asked = [name for name in _first_norms(reference) if _is_trained(reference.ops(BatchNorm)[name])]
    images = [name for name, op in reference.ops(Input).items() if op.numbers == "real" and len(op.shape) == 3]
    if not asked and not images:
        return
    read = {name: reference.nodes[name].inputs[0] for name in asked}
    some = list(samples.still().thinned(_SOME).batches())
    hint = f"give what the network was trained with (--mean, --std, --scale, --channels); now {preprocessing.told}"
    program = Program(reference, want=[*dict.fromkeys(read.values())]) if asked else None
    for name, value in read.items():
        assert program is not None
        op = reference.ops(BatchNorm)[name]
        found = torch.cat([channel_rows(program(feeds)[value][0], op.axis) for feeds in some], 1).double()
        width = (op.variance.double() + op.epsilon).sqrt()
        away = float(((found.mean(1) - op.mean.double()).abs() / width).median())
        wide = float((found.std(1, correction=0) / width).median())
        if away > _FAR or not 1 / _WIDE < wide < _WIDE:
            message = (
                f"inputs are not as in training: for the median channel, values lie {number(away)} standard deviations "
                f"away and are {number(wide)} times as wide"
            )
            yield Finding("unlike-training", "warning", name, message, hint)
    most = max((float(feeds[name].abs().max()) for feeds in some for name in images), default=0.0)
    if not asked and most > _LARGE:
        message = f"inputs reach {number(most)}, as pixels that nobody has scaled do"
        yield Finding("unlike-training", "warning", "", message, hint)


def unsure(reference: Graph, samples: Samples, task: Task, accuracy: float | None) -> Iterator[Finding]:
    """Yield the finding on a classifier that is unsure of labeled samples, or much surer than it is right."""
    if not isinstance(task, Classification) or accuracy is None or len(samples) < _FEW:
        return
    confidence = _confidence(reference, samples.still().thinned(_MORE), task)
    told = f"the trained network is {percent(confidence)} sure on average, and right on {written(accuracy, '%')} %"
    hint = "check that mean, std, scale, channels and the order of labels are those of the training"
    if confidence < _UNSURE or confidence - accuracy / 100 > _TOO_SURE:
        yield Finding("unsure", "warning", "", told, hint)


def better_read(
    reference: Graph, read: Callable[[Preprocessing], Samples], preprocessing: Preprocessing, task: Task
) -> Iterator[Finding]:
    """Yield the finding on images that a classifier knows far better when they are read as is usual for networks.

    ``read`` opens the same labeled samples with other preprocessing.
    """
    taken = list(reference.ops(Input).values())
    if not isinstance(task, Classification) or len(taken) != 1 or len(taken[0].shape) != 3:
        return
    channels = taken[0].shape[0 if preprocessing.layout == "nchw" else -1]

    def right(how: Preprocessing) -> torch.Tensor:
        samples, program = read(how).thinned(_SOME), Program(reference, want=task.judged(reference.outputs))
        labels = samples.labels(task.labels)
        assert labels is not None
        hits: torch.Tensor = joined(_answers(program, samples, task)) == labels.answers
        return hits

    given = right(preprocessing)
    fitting = [(mean, std) for mean, std in _USUAL if len(mean) in (0, 1, channels)]
    usual = [replace(preprocessing, mean=mean, std=std) for mean, std in fitting]
    usual += [replace(preprocessing, scale=1.0), replace(preprocessing, channels=_SWAPPED[preprocessing.channels])]
    others = [(how, right(how)) for how in dict.fromkeys(usual) if how != preprocessing]
    best, fits = max(others, key=lambda other: int(other[1].sum()))
    lost, won = int((given & ~fits).sum()), int((fits & ~given).sum())
    if intervals.paired(won, lost, len(given))[0] > _BETTER:
        shares = [percent(float(hits.double().mean())) for hits in (fits, given)]
        message = f"read otherwise ({best.told}), the trained network is right on {shares[0]} of {len(given)} samples"
        hint = "if that is how it was trained, say so: --mean, --std, --scale, --channels"
        yield Finding("read-otherwise", "warning", "", f"{message}, instead of {shares[1]}", hint)


def check_expected(
    expected: float | None, reference: Graph, samples: Samples, task: Task, preprocessing: Preprocessing
) -> None:
    """Raise DataError where a trained network is worse on labeled samples than it is said to be, beyond chance."""
    some = samples.thinned(_MANY)
    labels = some.labels(task.labels)
    if expected is None or labels is None or not task.score_name:
        return
    program = Program(reference, want=task.judged(reference.outputs))
    answers = joined(_answers(program, some, task))
    seen = len(answers)
    score = task.reference(task.outcomes(answers, answers, labels.answers)).get(task.score_name)
    if score is None or intervals.proportion(score * seen / 100, seen)[1] >= expected:
        return
    message = f"the trained network has {written(score, '%')} % {task.score_name} on {seen:,} samples"
    hint = f"check labels, their order, and how samples are read; now {preprocessing.told}"
    place = "snnc.yaml: expected-accuracy"
    raise DataError(f"{message}, where {written(expected, '%')} % are expected", place=place, hint=hint)


def difference(before: Graph, after: Graph, samples: Samples, task: Task) -> str:
    """Return how far apart two networks are on the same samples, in words: their scores, or answers that are alike."""
    programs = [Program(graph, want=task.judged(graph.outputs)) for graph in (before, after)]
    labels = samples.labels(task.labels)
    was_given, given = (joined(_answers(program, samples, task)) for program in programs)
    seen = len(given)
    outcomes = task.outcomes(given, was_given, None if labels is None else labels.answers)
    measured = task.measured(outcomes)
    was = task.reference(outcomes).get(task.score_name)
    now = measured.get("accuracy") if task.score_name == "accuracy" else None
    scores = {name: found.value for name, found in measured.get("scores", {}).items()}
    now = scores.get(task.score_name, now)
    if was is not None and now is not None:
        return f"{task.score_name} on {seen:,} samples goes from {written(was, '%')} to {written(now, '%')} %"
    agreement = measured.get("agreement")
    if agreement is not None:
        return f"{written(agreement, '%')} % of the {task.answer_name} for {seen:,} samples stay the same"
    errors = [f"{name.replace('-', ' ')} {number(value)}" for name, value in scores.items()]
    return f"on {seen:,} samples: {', '.join(errors)}"


def _first_norms(graph: Graph) -> list[str]:
    """Return the batch normalizations with nothing before them but sums of the input."""
    later = (Activation, BatchNorm, Nonlinear)
    norms = graph.ops(BatchNorm)
    return [name for name in norms if not (graph.ancestors([name]) - {name}) & set(graph.ops(later))]


def _is_trained(op: BatchNorm) -> bool:
    """Return whether it has seen data: what it begins with says nothing."""
    return bool((op.mean != 0).any() or (op.variance != 1).any())


def _confidence(reference: Graph, samples: Samples, task: Classification) -> float:
    """Return the mean probability of the class that is named."""
    program = Program(reference, want=task.judged(reference.outputs))

    def sure(feeds: Feeds, first: int) -> list[torch.Tensor]:
        return [_probability(task, program(feeds)[program.want[0]][0])]

    return float(torch.cat(samples.added(program.chunk, sure)).mean())


def _answers(program: Program, samples: Samples, task: Task) -> list[Answers]:
    """Return a network's answers for samples, some at once."""
    return samples.added(
        program.chunk, lambda feeds, first: [task.answers([signal[0] for signal in program(feeds).values()])]
    )


def _probability(task: Classification, output: torch.Tensor) -> torch.Tensor:
    scores = task.scores([output])
    given = scores if _are_probabilities(scores) else scores.softmax(1)
    return given.amax(1)


def _are_probabilities(scores: torch.Tensor) -> bool:
    return bool((scores >= 0).all()) and bool(((scores.sum(1) - 1).abs() < 1e-3).all())
