"""The functions of a file on folded trains: what is done with time, and what neurons answer to a train."""

from collections.abc import Iterable, Iterator, Sequence

from snnc.formats.onnx.file import Function
from snnc.formats.onnx.neurons import Form, Gathering, Recurrence
from snnc.schedule import Schedule


def time_functions(schedule: Schedule) -> Iterator[Function]:
    """Yield what is done with time."""
    yield Function(
        "Schedule",
        ["timesteps"],
        ["rehearsal", "awake", "sleep"],
        f"""
        axis = Constant<value_ints = [0]>()
        rehearsal = Constant<value_ints = [{schedule.rehearsal}]>()
        awake = Unsqueeze(timesteps, axis)
        sleep = Constant<value_ints = [{schedule.sleep}]>()
        """,
        "how many steps there are: of rehearsal and awake, with the image on, then asleep, with the image off",
    )
    yield from _TIME_FUNCTIONS
    yield from _shown(shared=bool(schedule.shares))
    if schedule.shares:
        yield Function(
            "Gains",
            ["train", "timesteps"],
            ["gains", "elapsed"],
            f"""
            own_gains = Constant<value_floats = {floats(schedule.gains)}>()
            gains = snnc.AlongTime(own_gains, train)
            own_elapsed = Constant<value_floats = {floats(schedule.elapsed)}>()
            elapsed = snnc.AlongTime(own_elapsed, train)
            """,
            "by how much image and biases are stronger at each step than in equal steps, and how much of them, in "
            "equal steps, has been shown until then",
        )


def floats(values: Sequence[float]) -> str:
    """Write numbers as the values of an attribute."""
    return f"[{', '.join(map(repr, values))}]"


_TIME_FUNCTIONS = (
    Function(
        "Unfold",
        ["signal", "timesteps"],
        ["train"],
        """
        rehearsal, awake, sleep = snnc.Schedule(timesteps)
        lit = Add(rehearsal, awake)
        total = Add(lit, sleep)
        batch = Constant<value_ints = [-1]>()
        sample = Shape<start = 1>(signal)
        shape = Concat<axis = 0>(total, batch, sample)
        train = Reshape(signal, shape)
        """,
        "takes time out of the batch: [steps * batch, ...] to [steps, batch, ...]",
    ),
    Function(
        "Fold",
        ["train"],
        ["signal"],
        """
        folded = Constant<value_ints = [-1]>()
        sample = Shape<start = 2>(train)
        shape = Concat<axis = 0>(folded, sample)
        signal = Reshape(train, shape)
        """,
        "folds time into the batch: [steps, batch, ...] to [steps * batch, ...]",
    ),
    Function(
        "Phases",
        ["train", "timesteps"],
        ["rehearsing", "counting"],
        """
        rehearsal, awake, sleep = snnc.Schedule(timesteps)
        others = Add(awake, sleep)
        sizes = Concat<axis = 0>(rehearsal, others)
        rehearsing, counting = Split<axis = 0>(train, sizes)
        """,
        "the steps of the rehearsal, and those that count",
    ),
    Function(
        "Lights",
        ["train", "timesteps"],
        ["light", "dark"],
        """
        rehearsal, awake, sleep = snnc.Schedule(timesteps)
        lit = Add(rehearsal, awake)
        sizes = Concat<axis = 0>(lit, sleep)
        light, dark = Split<axis = 0>(train, sizes)
        """,
        "the steps with the image on, and those with the image off",
    ),
    Function(
        "Silence",
        ["sample", "steps"],
        ["train"],
        """
        zero = Constant<value_float = 0.0>()
        shape = Concat<axis = 0>(steps, sample)
        train = Expand(zero, shape)
        """,
        "so many steps of nothing, of the shape of a sample",
    ),
    Function(
        "Steps",
        ["timesteps"],
        ["awake_steps", "passed_steps"],
        """
        rehearsal, awake, sleep = snnc.Schedule(timesteps)
        one = Constant<value_int = 1>()
        axis = Constant<value_int = 0>()
        rehearsing = Expand(one, rehearsal)
        first = CumSum(rehearsing, axis)
        others = Add(awake, sleep)
        counting = Expand(one, others)
        passed = CumSum(counting, axis)
        second = Min(passed, timesteps)
        awake_steps = Concat<axis = 0>(first, second)
        passed_steps = Concat<axis = 0>(first, passed)
        """,
        "for every step how many have been awake until then, and how many have passed; the rehearsal is counted by "
        "itself",
    ),
    Function(
        "AlongTime",
        ["values", "train"],
        ["aligned"],
        """
        one = Constant<value_int = 1>()
        shape = Shape(train)
        rank = Size(shape)
        axes = Range(one, rank, one)
        same = CastLike(values, train)
        aligned = Unsqueeze(same, axes)
        """,
        "one number for every step, with as many axes as a train has",
    ),
    Function(
        "Accumulated",
        ["train"],
        ["totals"],
        """
        axis = Constant<value_int = 0>()
        totals = CumSum(train, axis)
        """,
        "running sums over time",
    ),
    Function(
        "Differences",
        ["train"],
        ["differences"],
        """
        axis = Constant<value_ints = [0]>()
        one = Constant<value_ints = [1]>()
        last = Constant<value_ints = [-1]>()
        number = Shape<end = 1>(train)
        first = Slice(train, axis, one, axis)
        later = Slice(train, one, number, axis)
        earlier = Slice(train, axis, last, axis)
        gained = Sub(later, earlier)
        differences = Concat<axis = 0>(first, gained)
        """,
        "the first step, then what every other one has more than the one before",
    ),
    Function(
        "TemporalMean",
        ["signal", "timesteps"],
        ["mean"],
        """
        train = snnc.Unfold(signal, timesteps)
        rehearsing, counting = snnc.Phases(train, timesteps)
        axis = Constant<value_ints = [0]>()
        total = ReduceSum<keepdims = 0>(counting, axis)
        steps = CastLike(timesteps, total)
        mean = Div(total, steps)
        """,
        "the sum over all steps but those of the rehearsal, divided by those awake",
    ),
    Function(
        "TemporalBias",
        ["signal", "shift", "timesteps"],
        ["biased"],
        """
        train = snnc.Unfold(signal, timesteps)
        one = Constant<value_int = 1>()
        counts, passed = snnc.Steps(timesteps)
        step = Sub(counts, one)
        number = Shape<end = 1>(shift)
        last = Sub(number, one)
        index = Min(step, last)
        biases = Gather<axis = 0>(shift, index)
        light, dark = snnc.Lights(train, timesteps)
        on, off = snnc.Lights(biases, timesteps)
        bright = Add(light, on)
        together = Concat<axis = 0>(bright, dark)
        biased = snnc.Fold(together)
        """,
        "adds a bias of its own at every step with the image on; past the last its bias stays",
    ),
    Function(
        "Framed",
        ["train", "timesteps"],
        ["signal"],
        """
        rehearsal, awake, sleep = snnc.Schedule(timesteps)
        sample = Shape<start = 1>(train)
        before = snnc.Silence(sample, rehearsal)
        after = snnc.Silence(sample, sleep)
        together = Concat<axis = 0>(before, train, after)
        signal = snnc.Fold(together)
        """,
        "a train of the steps awake, silent before and after",
    ),
    Function(
        "Draws",
        ["mean", "timesteps"],
        ["draws"],
        """
        axis = Constant<value_ints = [0]>()
        awake = Unsqueeze(timesteps, axis)
        sample = Shape(mean)
        blank = snnc.Silence(sample, awake)
        draws = RandomUniformLike<high = 1.0, low = 0.0, seed: float = @seed>(blank)
        """,
        "uniform random numbers in [0, 1), [timesteps, batch, ...]",
        attributes=["seed"],
    ),
)


def _shown(*, shared: bool) -> Iterator[Function]:
    """Yield what depends on whether all steps with the image on show as much of it, or each its share."""
    until_now, elapsed = (_GAINS, "elapsed") if shared else (_COUNTS, "steps")
    yield Function(
        "DirectCoding",
        ["current", "timesteps"],
        ["signal"],
        f"""
        rehearsal, awake, sleep = snnc.Schedule(timesteps)
        sample = Shape(current)
        steps = Add(rehearsal, awake)
        shape = Concat<axis = 0>(steps, sample)
        light = Expand(current, shape)
        dark = snnc.Silence(sample, sleep)
        train = Concat<axis = 0>(light, dark)
        {f"{_GAINS} shared = Mul(train, gains)" if shared else ""}
        signal = snnc.Fold({"shared" if shared else "train"})
        """,
        "a current of which every step with the image on has its share, and nothing in sleep"
        if shared
        else "a current that is the same at every step with the image on, and nothing in sleep",
    )
    yield _SHARED_BIAS if shared else _SILENCED_BIAS
    yield Function(
        "RunningMean",
        ["signal", "timesteps"],
        ["mean"],
        f"""
        train = snnc.Unfold(signal, timesteps)
        rehearsing, counting = snnc.Phases(train, timesteps)
        first = snnc.Accumulated(rehearsing)
        second = snnc.Accumulated(counting)
        totals = Concat<axis = 0>(first, second)
        {until_now}
        means = Div(totals, {elapsed})
        mean = snnc.Fold(means)
        """,
        "the mean of the steps until now, which is what an operation that is not linear sees",
    )
    yield Function(
        "TemporalDifference",
        ["signal", "timesteps"],
        ["difference"],
        f"""
        train = snnc.Unfold(signal, timesteps)
        {until_now}
        totals = Mul(train, {elapsed})
        rehearsing, counting = snnc.Phases(totals, timesteps)
        first = snnc.Differences(rehearsing)
        second = snnc.Differences(counting)
        together = Concat<axis = 0>(first, second)
        difference = snnc.Fold(together)
        """,
        "what a running mean, times the steps it is of, has gained since the step before",
    )


_COUNTS = """
        counts, passed = snnc.Steps(timesteps)
        steps = snnc.AlongTime(counts, train)
"""
_GAINS = """
        gains, elapsed = snnc.Gains(train, timesteps)
"""
_SILENCED_BIAS = Function(
    "SilenceBias",
    ["signal", "bias", "timesteps"],
    ["silenced"],
    """
    train = snnc.Unfold(signal, timesteps)
    light, dark = snnc.Lights(train, timesteps)
    unbiased = Sub(dark, bias)
    together = Concat<axis = 0>(light, unbiased)
    silenced = snnc.Fold(together)
    """,
    "takes away in sleep what a layer answers to nothing",
)
_SHARED_BIAS = Function(
    "SilenceBias",
    ["signal", "bias", "timesteps"],
    ["silenced"],
    """
    train = snnc.Unfold(signal, timesteps)
    gains, elapsed = snnc.Gains(train, timesteps)
    one = Constant<value_float = 1.0>()
    missing = Sub(one, gains)
    excess = Mul(bias, missing)
    together = Sub(train, excess)
    silenced = snnc.Fold(together)
    """,
    "leaves of what a layer answers to nothing the share of each step",
)


def neuron_functions(form: Form, schedule: Schedule) -> Iterator[Function]:
    """Yield what a neuron answers, and what that is made from."""
    if isinstance(form, Recurrence):
        yield step_function(form)
        yield _loop(form, schedule)
    else:
        yield from _gathering(form)


def step_function(form: Recurrence) -> Function:
    """Return one step of a recurrence."""
    inputs = ["x", *form.starts, *form.constants, *([form.counts] if form.counts else [])]
    outputs = ["spikes", *(f"next_{state}" for state in form.starts)]
    return Function(f"{form.name}Step", inputs, outputs, form.advance, form.about)


def _gathering(form: Gathering) -> Iterator[Function]:
    inputs = ["gathered", *(["draws"] if form.random else []), *form.constants, "timesteps"]
    yield Function(form.name, inputs, ["spikes"], form.mean, f"{form.about}; the mean over time")
    body = f"{form.train}\n signal = snnc.Framed(spikes, timesteps)"
    yield Function(f"{form.name}Train", inputs, ["signal"], body, f"{form.about}; every step")


def _loop(form: Recurrence, schedule: Schedule) -> Function:
    """Return the loop of a recurrence over the steps of a train, and again over those that follow a rehearsal."""
    starts = [f"start_{state}" for state in form.starts]
    lines = [
        "train = snnc.Unfold(signal, timesteps)",
        "awake_steps, passed_steps = snnc.Steps(timesteps)",
        f"counts = CastLike({form.counts or 'awake'}_steps, train)",
        "sample = Shape<start = 1>(train)",
        *(f"initial_{state} = Expand(start_{state}, sample)" for state in form.starts),
    ]
    initial = [f"initial_{state}" for state in form.starts]
    if schedule.rehearsal:
        again = [f"{'again' if state in form.learned else 'initial'}_{state}" for state in form.starts]
        lines += [
            "rehearsing, counting = snnc.Phases(train, timesteps)",
            "rehearsing_counts, counting_counts = snnc.Phases(counts, timesteps)",
            _scan(form, "rehearsing", "rehearsing_counts", initial, [*form.starts, "before"]),
            form.rehearsed,
            _scan(form, "counting", "counting_counts", again, [*(f"last_{state}" for state in form.starts), "after"]),
            "response = Concat<axis = 0>(before, after)",
        ]
    else:
        last = [f"last_{state}" for state in form.starts]
        lines.append(_scan(form, "train", "counts", initial, [*last, "response"]))
    body = "\n".join([*lines, "spikes = snnc.Fold(response)"])
    return Function(form.name, ["signal", *form.constants, *starts, "timesteps"], ["spikes"], body, form.about)


def _scan(form: Recurrence, train: str, counts: str, starts: Sequence[str], results: Sequence[str]) -> str:
    """Write a loop over the steps of a train: the ``results`` are the states after it, and the response."""
    before = [f"{train}_{state}" for state in form.starts]
    after = [f"{train}_next_{state}" for state in form.starts]
    step = [f"{train}_x", *([f"{train}_number"] if form.counts else [])]
    arguments = [f"{train}_x", *before, *form.constants, *step[1:]]
    return f"""
        {", ".join(results)} =
        Scan<num_scan_inputs = {len(step)}, body = {train}_step ({_typed([*before, *step])})
        => ({_typed([*after, f"{train}_spikes"])}) {{
            {", ".join([f"{train}_spikes", *after])} = snnc.{form.name}Step({", ".join(arguments)})
        }}>({", ".join([*starts, train, *([counts] if form.counts else [])])})
    """


def _typed(names: Iterable[str]) -> str:
    return ", ".join(f"float[] {name}" for name in names)
