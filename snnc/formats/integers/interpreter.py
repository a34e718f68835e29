"""A reference of what files of integers say, in numpy alone: whole numbers in, every spike out.

Values are float64, in which sums and products of whole numbers below 2^53 are exact, and fast.
"""

from typing import Any

import numpy as np

Arrays = dict[str, Any]


def run(network: dict[str, Any], arrays: Arrays, samples: Arrays) -> tuple[Arrays, Arrays]:
    """Return the outputs [N, ...] and, by layer, the events of all steps [steps, N, ...], for samples by input."""
    steps, asleep, rehearsal = (network["schedule"][key] for key in ("timesteps", "sleep", "rehearsal"))
    lit, total, begins, values = rehearsal + steps, rehearsal + steps + asleep, {0, rehearsal}, dict[str, list[Any]]()
    for node in network["nodes"]:
        name, kind, read = node["name"], node["kind"], [values[value] for value in node["inputs"]]
        own = {key: arrays[f"{name}.{key}"].astype(float) for key in node["arrays"]}
        if kind == "input":
            x = np.floor(np.float32(samples[name]) / np.float32(node["unit"]) + np.float32(0.5)).astype(float)
            values[name] = [np.clip(x, -node["most"], node["most"]) * (t < lit) for t in range(total)]
        elif kind == "neuron":
            values[name] = fire(node, own, read[0], lit, begins)
        elif kind == "gather":
            counts = np.clip((sum(read[0]) + own["start"]) // own["threshold"], 0, steps)
            values[name] = [counts * (t + 1) // steps - counts * t // steps for t in range(steps)]
        elif kind == "bias":
            since = [min(t - rehearsal * (t >= rehearsal), len(own["bias"]) - 1) for t in range(total)]
            values[name] = [x + own["bias"][since[t]] * (t < lit) for t, x in enumerate(read[0])]
        elif kind == "max":
            sums = [sum(read[0][rehearsal * (t >= rehearsal) : t + 1]) for t in range(total)]
            seen = [moved(node, own, -np.inf, x).max(-1) for x in sums]
            values[name] = [now if t in begins else now - seen[t - 1] for t, now in enumerate(seen)]
        else:
            values[name] = [KINDS[kind](node, own, *(train[t] for train in read)) for t in range(total)]
    outputs = {name: sum(values[name][rehearsal:]) * arrays[f"{name}.unit"] / steps for name in network["outputs"]}
    return outputs, {name: np.stack(values[name]) for name in network["layers"]}


def fire(node: dict[str, Any], own: Arrays, currents: list[Any], lit: int, begins: set[int]) -> list[Any]:
    """Return the events of neurons: as many thresholds as the potential holds, within what they may send."""
    events = []
    for t, x in enumerate(currents):
        if t in begins:
            potential, count, awake = 0 * x + own["start"], 0 * x + node["rest"], 0
        potential, awake = np.clip(potential + x, *node["holds"]), awake + (t < lit)
        event = np.clip(potential // own["threshold"], node["least"], node["first" if t in begins else "largest"])
        if node["counts"]:
            event = np.clip(event, -count, (node["highest"] or node["largest"] * awake) - count)
        potential, count = potential - event * own["threshold"], count + event
        events.append(event + node["rest"] * (t in begins))
    return events


def moved(node: dict[str, Any], own: Arrays, border: float, *parts: Any) -> Any:
    """Return numbers from other places, [..., taps]; behind the last one there is the border."""
    flat = np.concatenate([*(x.reshape(len(x), -1) for x in parts), np.full((len(parts[0]), 1), border)], 1)
    return flat[:, own["index"].astype(int)].reshape(-1, *node["shape"], own["index"].shape[-1])


def convolved(node: dict[str, Any], own: Arrays, x: Any) -> Any:
    """Return a convolution of maps [N, C, ...], of every group of channels by itself."""
    axes, (outputs, inputs, *kernel) = len(node["stride"]), own["weight"].shape
    around = zip([0, 0, *node["padding"][:axes]], [0, 0, *node["padding"][axes:]], strict=True)
    spans = [(side - 1) * step + 1 for side, step in zip(kernel, node["dilation"], strict=True)]
    seen: Any = np.lib.stride_tricks.sliding_window_view(np.pad(x, [*around]), spans, tuple(range(-axes, 0)))
    seen = seen[(..., *(slice(None, None, step) for step in (*node["stride"], *node["dilation"])))]
    rows = seen.reshape(len(x), -1, inputs, int(np.prod(seen.shape[2:-axes])), int(np.prod(kernel)))
    weight = own["weight"].reshape(rows.shape[1], -1, inputs, rows.shape[-1])
    return np.einsum("ngipk,goik->ngop", rows, weight, optimize=True).reshape(len(x), outputs, *seen.shape[2:-axes])


KINDS: dict[str, Any] = {
    "convolution": lambda node, own, x: convolved(node, own, x) * 2.0 ** node["shift"],
    "linear": lambda node, own, x: x @ own["weight"].T * 2.0 ** node["shift"],
    "scale": lambda node, own, x: x * own["weight"],
    "add": lambda node, own, *parts: sum(parts),
    "sum": lambda node, own, *parts: moved(node, own, 0.0, *parts).sum(-1),
}
