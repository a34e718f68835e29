"""What the tool left alone, approximated or distrusts, as data, and what every kind of it means."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Explanation:
    """What a finding means: where it comes from, what it does to the result, and what can be done about it."""

    cause: str
    effect: str
    remedy: str


@dataclass(frozen=True, order=True)
class Finding:
    """One remark on a conversion. ``code`` is one of ``EXPLANATIONS``, ``node`` is "" for the whole network."""

    code: str
    severity: Literal["info", "warning"]
    node: str
    message: str
    hint: str

    def __post_init__(self) -> None:
        if self.code not in EXPLANATIONS:
            raise ValueError(f"a finding of no known kind: {self.code!r}")


EXPLANATIONS: Mapping[str, Explanation] = {
    "altered": Explanation(
        "A pass of the recipe makes another function of the network, such as average pools in the place of max-pools.",
        "Answers are other ones before anything spikes; what that costs stands in the finding where data was given.",
        "Leave the pass out, or fine-tune with it: snnc finetune with the same recipe.",
    ),
    "analog-activation": Explanation(
        "A network that brings quantized activations of its own also has plain ones, which its author left at full "
        "precision. By default they are kept as they are.",
        "This activation does not spike: it works on mean values, and the layer behind it multiplies.",
        "Set passes.normalize-activations.beside-quantized=spike to make it spike, at some loss of accuracy.",
    ),
    "analog-layer": Explanation(
        "Between this layer and the neurons before it stands something that is not a sum of spikes: another linear "
        "layer, or an activation that does not spike.",
        "The layer costs a multiplication for every weight: once for each image before neurons that gather first or "
        "the answer, at every step before those that fire while they gather.",
        "Put place-neurons into the recipe, before the pass that chooses thresholds. Where it costs more accuracy than "
        "it saves energy, leave the layer as it is.",
    ),
    "budget-spent": Explanation(
        "The minutes given to snnc tune were over before all candidates had been tried.",
        "A cheaper conversion may have been missed; another computer may try more, or fewer, candidates.",
        "Give more --minutes, or narrow the search with --latency, --max-steps or --max-energy.",
    ),
    "calibrated-on": Explanation(
        "Samples that are evaluated, or that tell when to stop, are those that the network was calibrated on, by their "
        "digest.",
        "Thresholds and corrections follow these samples: the drop on others may be larger than the one that is told, "
        "and more of their answers may change after they were taken for certain.",
        "Evaluate on other samples, and name others with --exit-data. A single set is split by --part train and --part "
        "test.",
    ),
    "class-order": Explanation(
        "Folders are the classes, and numbers in their names are not in the order of their characters: class10 comes "
        "before class2, as torchvision's ImageFolder and Keras number them.",
        "A network trained on other numbers of the classes is judged by wrong labels.",
        "Say --class-order name where it is right, and --class-order natural where class2 comes before class10.",
    ),
    "classes-not-covered": Explanation(
        "The labels are of fewer classes than the network has outputs, or folders number them from another start.",
        "Where folders are missing, or are not the classes, labels are of other outputs than those that were trained.",
        "Give the folder that holds one folder for each class, or list files and labels in labels.csv.",
    ),
    "codes": Explanation(
        "Weights would multiply what no spikes bring: sums of other layers, or what functions make that no neurons "
        "stand for. The pass place-neurons put neurons there that stand for the value itself, above and below zero.",
        "Spikes drive those weights. The target needs events with a sign, and each value is rounded to a level.",
        "Where the target has no signed events, or rounding costs too much: passes.place-neurons.where=none, or name "
        "layers to keep in passes.place-neurons.keep.",
    ),
    "dead-channels": Explanation(
        "Channels of this layer did not fire for any of the images measured.",
        "None where these channels are 0 in the trained network too; otherwise what they carry is lost.",
        "Give more, or more varied, images. If they stay dead: a lower threshold, or more time steps.",
    ),
    "failed-gate": Explanation(
        "A limit is broken by what was measured or, with --proven, kept by too few samples to prove it.",
        "The network is not as good, or not as cheap, as asked for: the command exits with 4.",
        "More time steps, calibration on more images, or another limit.",
    ),
    "few-images": Explanation(
        "The network was calibrated on fewer images than thresholds and corrections need.",
        "They follow the sample more than the data: accuracy on other images can be worse than without correction.",
        "Give 64 images or more. Labels are not needed.",
    ),
    "files-left-out": Explanation(
        "Files beside the samples were of no kind that is read, by the ends of their names.",
        "What is measured is of the samples alone. Where the others should be samples, some of the data is missing.",
        "Save them in a format that is read, or move them away.",
    ),
    "folders-below-classes": Explanation(
        "Folders whose names are classes hold folders again, and samples in these.",
        "All of them count as the class of the outer folder. One level too high, the classes are others than meant.",
        "Give the folder of the classes itself, move the samples up, or list files and labels in labels.csv.",
    ),
    "frames": Explanation(
        "Samples are frames over time, of which a network that is not spiking can make one answer in two ways: from "
        "each of them, averaged, or from their sum.",
        "Accuracy, agreement and errors compare with the one that is named.",
        "Choose with --reference frames or sum, when converting too: thresholds are worked out on the same.",
    ),
    "gray-among-color": Explanation(
        "Images in gray are given to a network that takes color.",
        "All three colors show the same, as other loaders have it too.",
        "None is needed where the network was trained so; else leave those images out.",
    ),
    "halves-round-up": Explanation(
        "The file rounds halves to the nearest even number, as ONNX does; neurons, and this tool, round them up.",
        "Values that are exactly half way between two levels come out one level higher.",
        "No loss where such values do not occur, which a check on random inputs confirms or denies.",
    ),
    "idle-steps": Explanation(
        "The schedule has steps of sleep or rehearsal, but no neuron of this network works in them.",
        "None: the answer is the same, and comes after as many steps as without them.",
        "Leave them out, or use neurons that fire while they gather: --latency synchronous.",
    ),
    "lateral-inhibition-pool": Explanation(
        "Max-pooling on spike trains takes the maximum of the currents accumulated so far (CASC, Li et al., 2024).",
        "No loss; the target has to let the winner of a window inhibit the others, and take spikes back.",
        "Where it cannot: two-phase neurons, or average pooling in the trained network.",
    ),
    "less-for-time": Explanation(
        "The minutes given (--minutes) are fewer than all samples and all steps of training take on this machine.",
        "The network is calibrated on fewer samples, or trained for fewer steps, than were asked for; another machine "
        "may have time for more, or less.",
        "Give more --minutes. What was decided is in the recipe of the file: snnc convert --save-recipe writes it, and "
        "--limit takes as many samples again.",
    ),
    "levels-differ": Explanation(
        "The network was trained with quantized activations of so many levels, and converted for another number of "
        "time steps.",
        "Levels and spike counts do not match, and every layer rounds once more.",
        "Convert with --timesteps equal to the number of levels.",
    ),
    "mean-of-frames": Explanation(
        "These neurons gather before they fire, or take back what was fired too early: their counts are those of the "
        "mean current, whatever came when. What the trained network makes of each frame alone is something else.",
        "Where frames differ, as those of a moving camera do, answers can be wrong however many steps there are.",
        "Convert with neurons that only fire as they gather (--neuron if), or compare with --reference sum.",
    ),
    "network-prints": Explanation(
        "A TorchScript network is a program, which is run once, in a process of its own, to learn what it computes. "
        "This one printed something then.",
        "None on the result: only what leads to its outputs is converted.",
        "Where the file is from somebody else, look at what it is. Otherwise take the printing out and save it again.",
    ),
    "no-batch-axis": Explanation(
        "The file says the shape of its input to the last number, and none of its outputs has the first axis, too. So "
        "that axis is one of every sample, not a count of samples.",
        "Every sample is given to the network alone; the spiking network takes batches of them as any other does.",
        "None is needed. Where the first axis is a batch, export the network for a batch of 1.",
    ),
    "no-labels": Explanation(
        "The data has no labels of the kind that the task takes, so its score could not be judged.",
        "The drop is the share of answers that are not the trained network's, which is more than the drop of a score.",
        "Give labels, as the finding says: without them what changed counts as wrong, even where it was wrong before.",
    ),
    "never-refined": Explanation(
        "These neurons send units of several levels first, and single levels in a step that is not in the schedule.",
        "Counts stay a coarse guess, which costs accuracy.",
        "Give them as many steps, awake or asleep, as they have units: --sleep N.",
    ),
    "no-rehearsal": Explanation(
        "These neurons learn their initial potential in a rehearsal, and the schedule has none.",
        "They are plain integrate and fire neurons, at the price of the better ones.",
        "Give them some steps: --set rehearsal=4.",
    ),
    "not-proven": Explanation(
        "A limit is kept by what was measured, but the 95 % interval of that reaches beyond it.",
        "On other samples the limit may be broken. The command succeeds all the same, unless --proven or --strict is "
        "given.",
        "Evaluate on as many samples as the finding names, or set a limit further from the measured value.",
    ),
    "not-varied": Explanation(
        "The recipe varies images in training, by crops or mirroring; the task asks where things are, or for numbers.",
        "Images were trained on as they are, as labels would not have moved along; few are learned by heart sooner.",
        "Give more images, or variations with labels of their own; training.augment=[] says so in the recipe.",
    ),
    "nothing-learned": Explanation(
        "Training without labels did not get nearer to the trained network on the images held out.",
        "It was undone: the network is as it was before this pass, and the time was spent for nothing.",
        "Expected where the start is exact. Otherwise give more images or steps, or leave the pass out.",
    ),
    "nothing-random": Explanation(
        "Repeats were asked for, but neither neurons nor a probe draw anything at random.",
        "All repeats would be the same; one was run.",
        "Leave out --repeats.",
    ),
    "input-not-read": Explanation(
        "No output depends on an input of the file: what it was for was folded away, or was never there.",
        "The spiking network has no such input, and data needs none for it.",
        "Nothing, unless it should matter: then look at how the network was exported.",
    ),
    "nothing-spikes": Explanation(
        "The network has no activation that a spiking neuron could stand for.",
        "Nothing was converted: the result is the trained network, run step by step.",
        "Check that the model is the one you meant; snnc inspect shows what every operation becomes.",
    ),
    "one-hot": Explanation(
        "Labels are a row for each sample, 1 at one place and 0 elsewhere, as to_categorical of Keras writes classes.",
        "The place of the 1 is taken as the class, and answers are judged as classes: by accuracy.",
        "None for classes. Where labels apply each on its own, state the task: --task multi-label.",
    ),
    "other-timesteps": Explanation(
        "Thresholds and corrections were worked out for one number of time steps, and the network is run for another.",
        "With fewer steps it loses more than it would have to; with more it gains less.",
        "Calibrate for that number: snnc calibrate --timesteps T --data FOLDER.",
    ),
    "optimized-by-onnxruntime": Explanation(
        "onnxruntime optimized the file and saved it: its optimizer merges layers with what follows them.",
        "They are read as the operations that they were; what it folded into weights before is theirs for good.",
        "Convert the file from before it was optimized, where it is at hand.",
    ),
    "original-missing": Explanation(
        "The trained network is a fine-tuned one, and the network that it was before is not where it was looked for: "
        "in the working folder, and beside the spiking network and the model of snnc.yaml.",
        "What fine-tuning lost is not in the figures: a network that training ruined converts without any loss.",
        "Name the original with --reference; a gate on the drop asks for it.",
    ),
    "output-softmax-removed": Explanation(
        "The network ends in a softmax, which changes no prediction and has no spiking form.",
        "Outputs are logits, not probabilities; the largest is the same.",
        "Apply the softmax outside, where probabilities are needed.",
    ),
    "post-processing-removed": Explanation(
        "The network ends in post-processing: it chooses among what was computed, the largest or the best boxes, and "
        "how much comes out can depend on the data.",
        "Outputs are the values that it chooses from.",
        "Do it outside, on the outputs.",
    ),
    "pixels-taken-as-scaled": Explanation(
        "Real numbers in an array are taken as values that somebody has scaled already, and these reach as far as "
        "pixels do, which are from 0 to 255.",
        "A network that was trained on scaled pixels sees numbers 255 times too large.",
        "Save pixels as uint8. Where the network takes numbers from 0 to 255, say so by --scale 1.",
    ),
    "quantization-left-out": Explanation(
        "The file rounds values to integers that no rectifier gives: what goes in and out, sums, gates.",
        "The network computes with the numbers before they are rounded, and does not cut them off at a range's ends.",
        "Compare the accuracy of the imported network; or convert the network from before it was quantized.",
    ),
    "quantized-activations": Explanation(
        "The file holds activations that are rounded to levels: the network was trained for this, or quantized.",
        "They are taken over with their thresholds; with as many time steps as levels the conversion can be exact.",
        "Convert with --timesteps equal to the number of levels, and neurons that count exactly (two-phase, or cif "
        "with sleep).",
    ),
    "recordings": Explanation(
        "Samples are recordings of events, of which the same data can be published in several formats.",
        "What one format loses or turns around is another picture than that of the next.",
        "Compare with figures that were measured on the same copy of the data.",
    ),
    "read-otherwise": Explanation(
        "The trained network doubted the samples, which were then read as is usual for other networks, too.",
        "Read so, it is right far more often: preprocessing is most likely not that of the training.",
        "Look up how the network was trained, and say so with --mean, --std, --scale and --channels.",
    ),
    "reader-loses": Explanation(
        "A program that reads the exported file gets fewer answers right than this network, beyond chance: it takes "
        "neurons otherwise, most often what a spike leaves behind.",
        "On that program, or on hardware that does as it does, accuracy is what the finding says.",
        "Convert for its reset (snnc calibrate --reset zero), or use a reader that resets by the threshold.",
    ),
    "report-replaced": Explanation(
        "There was a report beside the network that belonged to another one, or could not be read.",
        "Only what was measured now is in the new report: nothing of layers, unless they are calibrated again.",
        "Calibrate again, or keep the reports of different networks under different names with --report.",
    ),
    "quantized-weights": Explanation(
        "Weights, biases and thresholds were rounded to whole numbers, in one unit per channel, as the recipe asks.",
        "Every layer computes with slightly different weights; how far that carries, an evaluation tells.",
        "Where it costs too much: more bits (--weight-bits), or images to correct biases on.",
    ),
    "real-weights": Explanation(
        "What drives these neurons is no sum of weights, one for each spike: a scale that could not be folded, spikes "
        "of several values in one channel, as behind an addition or a LeakyReLU, or means of windows that the border "
        "cuts in many ways.",
        "It was not made whole numbers: a target that only counts cannot hold it.",
        "Train with ReLU in the place of LeakyReLU, with an activation between an addition and the next layer, and "
        "with averages that count their padding.",
    ),
    "saturated-channels": Explanation(
        "For half of the values or more, the current of these channels is at the threshold or above.",
        "A neuron fires at most once a step: what is above its threshold is cut off.",
        "Higher thresholds (passes.calibrate-thresholds.kind=max), more time steps, or the burst neuron.",
    ),
    "signed-spikes": Explanation(
        "These neurons emit negative spikes too: to take back what was fired too early, or for a LeakyReLU.",
        "The target needs events with a sign.",
        "Where it has none: networks with ReLU only, and --neuron if or two-phase.",
    ),
    "start-kept": Explanation(
        "Fine-tuning reached nothing better on the samples held out than the quantized network it started from.",
        "The start is what was written: nothing was learned, and the time was spent for nothing.",
        "A smaller learning rate, more epochs, or more images; with --strict the command exits with 4.",
    ),
    "task-not-stated": Explanation(
        "The network has outputs of a shape that boxes, or classes of pixels, usually have; nobody said what they are.",
        "Answers are compared as numbers: how far outputs moved says little of boxes or classes that changed.",
        "State the task, as the finding says; with labels of its kind the score and what is lost of it are measured.",
    ),
    "temporal-bias": Explanation(
        "A bias that changes from step to step is added to these currents (FTBC, Wu et al., 2024, or trained).",
        "No loss; the target has to add another constant current at every step.",
        "Where it cannot, leave temporal off in correct-spiking-residual and distill.",
    ),
    "uncalibrated": Explanation(
        "No images were given: thresholds come from what batch normalization states about its inputs. Where the file "
        "has none left, thresholds and biases come from synthetic input, made with the network itself.",
        "Weights were not corrected, and nothing measured; at few time steps the loss can be large. At many, synthetic "
        "images come close to real ones; ids drawn at random are a poor stand-in for text.",
        "Calibrate on a folder of images, without labels: snnc calibrate --data FOLDER. Without any, say how images "
        "are preprocessed (--mean, --std): otherwise they are taken as standardized.",
    ),
    "trained-at-chance": Explanation(
        "The trained network itself is right about as often as somebody who draws lots.",
        "No conversion can be better. Labels, their order, or the preprocessing are most likely other than it was "
        "trained with, and what is compared with it says nothing.",
        "Compare labels, mean, std, scale and channels with those of the training.",
    ),
    "unfolded-affine": Explanation(
        "A scale and shift per channel, as of batch normalization, has no weights before it to be folded into.",
        "No loss; the target has to scale, and to add a constant current, here.",
        "Put the batch normalization behind a convolution or linear layer, and train again, to be rid of it.",
    ),
    "values-of-few-bits": Explanation(
        "Images of 16 bits hold values of far fewer, as cameras and medical images of 12 bits do; their high byte is "
        "taken.",
        "What the network sees is nearly black.",
        "Save their values as 8 bits, or scaled in a .npy file, as the network was trained on them.",
    ),
    "unlike-training": Explanation(
        "The first batch normalization says how values lay in training, and on these data they lie elsewhere, or are "
        "much wider or narrower; or values are as large as pixels that nobody has scaled.",
        "The trained network is not as good as it could be, nor is what comes of it: figures say little.",
        "Give what the network was trained with: mean, std, scale, and the order of channels.",
    ),
    "unsure": Explanation(
        "On these labeled samples the trained network is unsure of its answers, or much surer than it is right.",
        "Preprocessing or labels may not be those of the training; then figures say little.",
        "Check mean, std, scale, channels and the order of labels; expected-accuracy in snnc.yaml has it checked.",
    ),
    "unsettled": Explanation(
        "Something still fired in the last step of sleep, for at least one image.",
        "Counts may not have settled: the answer may not be that of the closed form yet.",
        "Give more steps of sleep, --sleep N: where nothing fires in the last of them, all has settled.",
    ),
    "whole-samples": Explanation(
        "With --stream frames are answered one by one; every other figure is of whole samples, whose frames are shown "
        "over the time steps of one answer, or as their mean where there are more frames than steps.",
        "With fewer steps than frames these figures are of pictures that nobody would show; those of the frames are "
        "not.",
        "Look at the figures of the frames, or give as many --timesteps as samples have frames.",
    ),
}
