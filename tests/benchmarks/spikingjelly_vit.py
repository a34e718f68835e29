"""Convert the vision transformer with SpikingJelly (recipe STA), and measure it; run by modern.py, elsewhere.

    python tests/benchmarks/spikingjelly_vit.py MODEL.onnx IMAGES.npz T [T ...]

``IMAGES.npz`` holds images as the network takes them, ``calibration`` and ``test``. The last line is JSON: by T, which
class each test image is given and the seconds that this took; by "trained", the same of the network in torch.
"""

import json
import sys
import time

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.ann2snn import Converter, STATransformerRecipe
from torch import Tensor, nn
from trained import VisionTransformer

BATCH = 64
HEADS = 3


def network(path: str) -> nn.Module:
    """Rebuild the network from its file."""
    graph = onnx.load(path).graph
    constants = {entry.name: torch.from_numpy(np.array(numpy_helper.to_array(entry))) for entry in graph.initializer}
    products = [node.input[1] for node in graph.node if node.op_type == "MatMul" and node.input[1] in constants]
    return VisionTransformer(constants, [constants[name] for name in products], HEADS)


def answers(model: nn.Module, images: Tensor, steps: int) -> tuple[list[int], float]:
    """Return the class of each image, and the seconds; without ``steps``, of the network in torch."""
    found: list[int] = []
    started = time.perf_counter()
    with torch.no_grad():
        for part in images.split(BATCH):
            if steps:
                functional.reset_net(model)
                sequence = torch.zeros(steps, *part.shape)
                sequence[0] = part
                found += model(sequence).sum(0).argmax(1).tolist()
            else:
                found += model(part).argmax(1).tolist()
    return found, time.perf_counter() - started


def main() -> None:
    path, data, *counts = sys.argv[1:]
    with np.load(data) as arrays:
        calibration, test = (torch.from_numpy(arrays[name]) for name in ("calibration", "test"))
    measured = {"trained": answers(network(path), test, 0)}
    for steps in map(int, counts):
        recipe = STATransformerRecipe(
            dataloader=[(part, None) for part in calibration.split(BATCH)],
            time_steps=steps,
            mode="spiking_encoder",
            threshold_mode="mse",
            threshold_scale=0.5,
        )
        converted = Converter(recipe=recipe).convert(network(path)).eval()
        functional.set_step_mode(converted, "m")
        measured[str(steps)] = answers(converted, test, steps)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
