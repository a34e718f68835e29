"""What turns a trained graph into a spiking one, one pass a file.

``passes`` maps the names that recipes use to the classes; their fields are their options. A recipe is made of passes
in order, from their names (``snnc.recipe.load``) or from themselves:

    import snnc
    from snnc.passes import passes

    sorted(passes)  # the names of all there are
    steps = (
        passes["fold-batch-norm"](),
        passes["normalize-activations"](),
        passes["calibrate-thresholds"](kind="percentile", percentile=99.5),
        passes["substitute-neurons"](neuron="cif"),
    )
    recipe = snnc.recipe.Recipe("mine", timesteps=4, passes=steps, sleep=1)
    conversion, report = snnc.convert("model.onnx", recipe, data="calibration")

A pass is a pure function: ``step(graph, calibration)`` returns another graph, and shares with the old one what it does
not change. To add one, put a file in this package with a class that is registered (``@passes.register("name")``) and
has ``Pass`` as its base: see ``snnc.passes.base``.
"""

from snnc.passes.base import Pass, TrainingPass, passes

__all__ = ["Pass", "TrainingPass", "passes"]
