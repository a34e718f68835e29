"""Train a small CNN on pictures of bars and crosses, and write what a CI job needs: a model and data."""

import warnings

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE, CLASSES = 12, ("horizontal", "vertical", "cross")


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw bars and crosses ``[N, 1, 12, 12]`` on noise, and say which each is ``[N]``."""
    random = np.random.default_rng(seed)
    images = random.normal(0, 0.3, (count, 1, SIDE, SIDE)).astype(np.float32)
    labels = random.integers(len(CLASSES), size=count)
    for image, label in zip(images, labels, strict=True):
        row, column = random.integers(2, SIDE - 2, size=2)
        if label != 1:
            image[0, row] += 1
        if label != 0:
            image[0, :, column] += 1
    return torch.from_numpy(images), torch.from_numpy(labels)


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, len(CLASSES)),
    )  # fmt: skip
    images, labels = pictures(1024, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(4):
        for chosen in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    model.eval()
    with warnings.catch_warnings():
        # torch points to its newer exporter, which folds batch normalization away.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model, (images[:1],), "model.onnx", dynamo=False, do_constant_folding=False,
            input_names=["image"], output_names=["logits"], dynamic_axes={"image": {0: "N"}},
        )  # fmt: skip
    np.savez("calibration.npz", x=images[:128].numpy())
    images, labels = pictures(300, seed=1)
    np.savez("test.npz", x=images.numpy(), y=labels.numpy())
    print(f"{100 * (model(images).argmax(1) == labels).double().mean():.1f} % of the test pictures are recognized")


if __name__ == "__main__":
    main()
