"""Convert the digits network, and watch its spikes for one image.

Run it in this folder, as a whole (python spikes.py) or cell by cell in an editor that knows notebooks. It writes
spikes.png.
"""

# %% Convert the trained network to one whose layers all fire at once, and look at it as a module of torch.
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import ListedColormap
from matplotlib.ticker import MaxNLocator

import snnc

IMAGE, PICTURE = 7, Path("spikes.png")

gray = snnc.Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")
recipe = snnc.recipe.load("quick", timesteps=16, sleep=4, neuron="cif")
conversion, report = snnc.convert("model.onnx", recipe, data="calibration", preprocessing=gray)
snnc.save(conversion, "digits.snn")

network = snnc.load("digits.snn")
print(network)

# %% Show it some images: every spike of every neuron comes back.
test = snnc.open_dataset("test", network.preprocessing, network.input_shapes, snnc.Reading(limit=16))
images = next(test.batches())
count = images.samples
response = network.respond(images)

labels = test.labels("classes").answers
right = (response.output.argmax(1) == labels).sum()
print(f"{right} of {count} images are recognized")
for layer, spikes in response.spikes.items():
    print(f"{layer:14} {spikes[0, 0].numel():4} neurons, {spikes.abs().sum() / count:6.1f} spikes for an image")

# %% Take the same steps one by one, as a host would whose loop is its own.
state, total = network.start(images), 0
for _ in range(network.schedule.total):
    state, output = network.step(state, images)
    total = total + output
print("step by step, the same answer:", torch.allclose(total / network.schedule.timesteps, response.output, atol=1e-4))

# %% Plot one image: who fires when, and what the output adds up to.
schedule = network.schedule
steps = range(1, schedule.total + 1)
ink, quiet, faint, fired, undone = "#22223b", "#85858f", "#f3f3f1", "#2a5bd7", "#e4572e"
plt.rcParams.update({"font.size": 9, "axes.titlesize": 9, "axes.titlelocation": "left", "axes.edgecolor": quiet})
plt.rcParams.update({"text.color": ink, "axes.labelcolor": ink, "xtick.color": quiet, "ytick.color": quiet})

figure = plt.figure(figsize=(8, 9), layout="constrained")
side, middle = figure.subfigures(1, 2, width_ratios=(1, 4.6))
heights = [1.0] * len(network.layers) + [1.6]
*rasters, sums = middle.subplots(len(heights), sharex=True, height_ratios=heights)

for axes, (layer, spikes) in zip(rasters, response.spikes.items(), strict=True):
    train = spikes[:, IMAGE].flatten(1)
    neurons = train.shape[1]
    highest_first = train[:, train.sum(0).argsort(descending=True, stable=True)].T
    place = {"aspect": "auto", "interpolation": "none", "extent": (0.5, schedule.total + 0.5, neurons, 0)}
    axes.imshow(highest_first.numpy(), cmap=ListedColormap([undone, faint, fired]), vmin=-1, vmax=1, **place)
    axes.vlines([step + 0.5 for step in steps], 0, neurons, color="white", linewidth=1)
    axes.axvline(schedule.lit + 0.5, color=quiet, linewidth=0.8)
    axes.set_title(f"{layer}: {int(train.abs().sum())} spikes of {neurons} neurons, the highest count on top")
    axes.set_yticks([])
    axes.tick_params(bottom=False)
    axes.spines[:].set_visible(False)

answers = response.signal[:, IMAGE].cumsum(0) / schedule.timesteps
answer = int(answers[-1].argmax())
sums.axhline(0, color=quiet, linewidth=0.6)
for digit, values in enumerate(answers.T.numpy()):
    chosen = digit == answer
    sums.plot(steps, values, color=fired if chosen else quiet, linewidth=2 if chosen else 0.8, zorder=2 + chosen)
sums.text(schedule.total + 0.15, float(answers[-1, answer]), str(answer), color=fired, va="center", fontsize=11)
sums.axvline(schedule.lit + 0.5, color=quiet, linewidth=0.8)
rasters[0].set_title("asleep", loc="right", color=quiet)
sums.set_title("output, added up over the steps, one line for each digit")
sums.set_xlabel("time step")
sums.xaxis.set_major_locator(MaxNLocator(integer=True))
sums.spines[["top", "right"]].set_visible(False)

picture, legend = side.subplots(2, height_ratios=(1, 4.2))
(pixels,) = images.values()
picture.imshow(pixels[IMAGE, 0].numpy(), cmap="gray_r")
picture.set_title(f"a {int(labels[IMAGE])}, read as a {answer}")
for row, (color, text) in enumerate(((fired, "a spike"), (undone, "a spike taken back"))):
    legend.text(0, 1 - 0.05 * row, "■", color=color, transform=legend.transAxes, va="top")
    legend.text(0.16, 1 - 0.05 * row, text, transform=legend.transAxes, va="top")
for axes in (picture, legend):
    axes.set_axis_off()

figure.savefig(PICTURE, dpi=160)
print(f"written: {PICTURE}")
