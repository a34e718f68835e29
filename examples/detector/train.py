"""Draw pictures of bright and dark squares, and train a detector of cells on them, as Yolo-FastestV2 has them."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

SIDE, STRIDE, ANCHOR, CLASSES = 32, 16, 12.0, 2
CELLS = SIDE // STRIDE


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a square on noise ``[N, 32, 32]``; say where it is: class, center, width and height in shares ``[N, 5]``."""
    random = np.random.default_rng(seed)
    images = random.normal(128, 15, (count, SIDE, SIDE))
    boxes = np.zeros((count, 5))
    for image, box in zip(images, boxes, strict=True):
        side, bright = random.integers(8, 15), random.integers(CLASSES)
        left, top = random.integers(0, SIDE - side, size=2)
        image[top : top + side, left : left + side] += 90 if bright else -90
        box[:] = bright, (left + side / 2) / SIDE, (top + side / 2) / SIDE, side / SIDE, side / SIDE
    return images.clip(0, 255).astype(np.uint8), boxes


def write(folder: str, images: np.ndarray, boxes: np.ndarray) -> None:
    """Write pictures with their boxes beside, as YOLO has them."""
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("images", "labels"):
        Path(folder, part).mkdir(parents=True)
    for index, (image, box) in enumerate(zip(images, boxes, strict=True)):
        Image.fromarray(image).save(Path(folder, "images", f"{index:03}.png"))
        Path(folder, "labels", f"{index:03}.txt").write_text(f"{box[0]:.0f} " + " ".join(map(str, box[1:])) + "\n")


def loss(outputs: Tensor, boxes: Tensor) -> Tensor:
    """Compare offsets, objectness and classes of all cells ``[N, 7, 4]`` with the box of each picture."""
    columns, rows = (boxes[:, 1] * CELLS).long(), (boxes[:, 2] * CELLS).long()
    cells = rows * CELLS + columns
    own = outputs[torch.arange(len(boxes)), :, cells]
    middle = own[:, :2].sigmoid() * 2 - 0.5 - (boxes[:, 1:3] * CELLS - torch.stack([columns, rows], 1))
    size = (own[:, 2:4].sigmoid() * 2) ** 2 - boxes[:, 3:] * SIDE / ANCHOR
    objects = F.binary_cross_entropy_with_logits(outputs[:, 4], F.one_hot(cells, CELLS**2).float())
    classes = F.cross_entropy(own[:, 5:], boxes[:, 0].long())
    return 5 * (middle.square().mean() + size.square().mean()) + objects + classes


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 4, stride=4), nn.ReLU(),
        nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.Conv2d(32, 32, 4, stride=4), nn.ReLU(),
        nn.Conv2d(32, 5 + CLASSES, 1), nn.Flatten(2),
    )  # fmt: skip
    drawn, boxes = pictures(400, seed=0)
    images, truth = torch.from_numpy(drawn)[:, None] / 255, torch.from_numpy(boxes).float()
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    for _ in range(12):
        for chosen in torch.randperm(len(images)).split(50):
            optimizer.zero_grad()
            loss(model(images[chosen]), truth[chosen]).backward()
            optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model.eval(), (images[:1],), "model.onnx", dynamo=False,
            input_names=["image"], output_names=["cells"], dynamic_axes={"image": {0: "N"}},
        )  # fmt: skip
    write("calibration", drawn[:64], boxes[:64])
    write("test", *pictures(60, seed=1))


if __name__ == "__main__":
    main()
