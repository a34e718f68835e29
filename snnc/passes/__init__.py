"""What turns a trained graph into a spiking one, one pass a file.

``passes`` maps the names that recipes use to the classes; their fields are their options. A recipe is made of passes
in order, from their names (``snnc.recipe.load``) or from themselves:

    from snnc.passes import passes

    sorted(passes)                                   # the names of all there are
    step = passes["calibrate-thresholds"](percentile=99.9)
    how = snnc.recipe.Recipe("mine", timesteps=4, passes=(passes["fold-batch-norm"](), ..., step, ...))

A pass is a pure function: ``step(graph, calibration)`` returns another graph, and shares with the old one what it does
not change. To add one, put a file in this package with a class that is registered (``@passes.register("name")``) and
has ``Pass`` as its base: see ``snnc.passes.base``.
"""

from snnc.passes.base import Pass, passes

__all__ = ["Pass", "passes"]
