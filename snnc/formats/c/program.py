"""The program for tests that a file in C holds behind a macro: samples in, spikes compared or written."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np

from snnc.formats.c.language import WIDTHS, Along, Array, Names, Value, declared, number, text

# In the place of the words in capitals stand those of a file.
_SEEN = """
#ifdef PREFIX_MAIN
static void seen(int32_t layer, const void *values);
#define PREFIX_SPIKES(layer, values) seen(layer, values)
#endif
/* Define it to see what a layer of neurons sends at a step: SENT. */
#ifndef PREFIX_SPIKES
#define PREFIX_SPIKES(layer, values) ((void)0)
#endif
"""

_MAIN = """
#ifdef PREFIX_MAIN
/* Runs the samples of conformance vectors (snnc export --vectors) and compares all spikes with those there; or writes
   to a second file what every layer sends at every step, and then the answer, sample by sample. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    int32_t size, inner, count;
    const float *weighs, *slope;
    const void *membrane;
    const float *factor, *offset;
    float rest;
    char sends, holds;
} layer;

typedef struct {
    const char *name;
    void *place;
    int32_t size, inner, count;
    char kind;
    const float *unit;
    float most;
} port;

typedef struct {
    char kind[4];
    long start, numbers;
    size_t width;
} tensor;

CONSTANTS
static const layer layers[] = {
    LAYERS
};
static const port inputs[] = {
    INPUTS
};
static const port answers[] = {
    ANSWERS
};

static FILE *vectors, *sent;
static char *names;
static long data, sample, samples, compared, differing, charged, odd;
static float *counted[sizeof(layers) / sizeof(layers[0])];
static tensor trains[sizeof(layers) / sizeof(layers[0])], charges[sizeof(layers) / sizeof(layers[0])];
static tensor entered[sizeof(inputs) / sizeof(inputs[0])], answered[sizeof(answers) / sizeof(answers[0])];
static double farthest;

static void demand(int holds, const char *otherwise) {
    if (holds) return;
    fprintf(stderr, "error: %s\\n", otherwise);
    exit(2);
}

static char *entry_of(const char *what, const char *name) {
    char *key = (char *)malloc(strlen(what) + strlen(name) + 16), *entry;
    demand(key != NULL, "out of memory");
    sprintf(key, "\\"%s%s\\":{\\"dtype\\":\\"", what, name);
    entry = strstr(names, key);
    entry = entry ? entry + strlen(key) : NULL;
    free(key);
    return entry;
}

static tensor found(const char *what, const char *name, long each) {
    tensor t;
    char *entry = entry_of(what, name), *offsets;
    long end;
    demand(entry != NULL, "the vectors lack an input, a layer or an output of this network");
    memset(&t, 0, sizeof(t));
    for (int32_t i = 0; i < 3 && entry[i] != '"'; ++i) t.kind[i] = entry[i];
    t.width = !strcmp(t.kind, "I64") ? 8 : t.kind[1] == '8' ? 1 : 4;
    demand(!strcmp(t.kind, "F32") || !strcmp(t.kind, "I32") || !strcmp(t.kind, "I64") || t.width == 1,
           "the vectors hold numbers of an unknown kind");
    offsets = strstr(entry, "\\"data_offsets\\":[");
    demand(offsets != NULL, "the vectors are no safetensors file");
    t.start = strtol(offsets + 16, &offsets, 10);
    end = strtol(offsets + 1, NULL, 10);
    t.numbers = (end - t.start) / (long)t.width;
    t.start += data;
    if (!samples) samples = t.numbers / each;
    demand(t.numbers == samples * each, "the vectors have other shapes than this network");
    return t;
}

static void look_up(const tensor *t, long first) {
    demand(!fseek(vectors, t->start + first * (long)t->width, SEEK_SET), "the vectors end early");
}

static double next(const tensor *t) {
    unsigned char bytes[8];
    float real;
    int32_t whole;
    int64_t large;
    demand(fread(bytes, t->width, 1, vectors) == 1, "the vectors end early");
    if (t->width == 1) return t->kind[0] == 'U' ? (double)bytes[0] : (double)(signed char)bytes[0];
    if (t->width == 8) return memcpy(&large, bytes, 8), (double)large;
    if (t->kind[0] == 'F') return memcpy(&real, bytes, 4), (double)real;
    return memcpy(&whole, bytes, 4), (double)whole;
}

/* The number in its place, of the kind that letters stand for: bytes of whole numbers, or single precision. */
static double number(const void *place, char kind, int32_t i) {
    if (kind == 'u') return (double)((const uint8_t *)place)[i];
    if (kind == '1') return (double)((const int8_t *)place)[i];
    if (kind == '2') return (double)((const int16_t *)place)[i];
    if (kind == '4') return (double)((const int32_t *)place)[i];
    if (kind == '8') return (double)((const int64_t *)place)[i];
    return (double)((const float *)place)[i];
}

/* What is counted in a unit is rounded to it. */
static double counts_of(const port *p, double value) {
    const float shifted = p->unit ? (float)value / p->unit[0] + 0.5f : 0.0f;
    int64_t whole;
    if (!p->unit) return value;
    if (!(shifted < p->most)) return (double)p->most;
    if (shifted <= -p->most) return -(double)p->most;
    whole = (int64_t)shifted;
    return (double)((float)whole > shifted ? whole - 1 : whole);
}

static void enter(const port *p, int32_t i, double value) {
    value = counts_of(p, value);
    if (p->kind == 'u') ((uint8_t *)p->place)[i] = (uint8_t)value;
    else if (p->kind == '1') ((int8_t *)p->place)[i] = (int8_t)value;
    else if (p->kind == '2') ((int16_t *)p->place)[i] = (int16_t)value;
    else if (p->kind == '4') ((int32_t *)p->place)[i] = (int32_t)value;
    else if (p->kind == '8') ((int64_t *)p->place)[i] = (int64_t)value;
    else ((float *)p->place)[i] = (float)value;
}

static void write(const float *values, long size) {
    demand(fwrite(values, sizeof(float), (size_t)size, sent) == (size_t)size, "the file cannot be written");
}

static void put(double value) {
    const float single = (float)value;
    write(&single, 1);
}

static double answer(const port *p, int32_t i) {
    const double given = number(p->place, p->kind, i);
    return p->unit ? given * (double)p->unit[i / p->inner % p->count] : given;
}

/* Whole numbers of spikes are sent as they are, and others times what they weigh. */
static float sent_value(const layer *l, const void *values, int32_t i) {
    const float now = (float)number(values, l->sends, i);
    return l->sends == 'f' ? now : now * l->weighs[i / l->inner % l->count];
}

static float value(const layer *l, int32_t i, float count) {
    const int32_t c = i / l->inner % l->count;
    return l->weighs[c] * (l->slope && count < 0.0f ? count * l->slope[c] : count);
}

static void weigh(int32_t index) {
    const layer *l = &layers[index];
    look_up(&charges[index], (taken * samples + sample) * l->size);
    for (int32_t i = 0; i < l->size; ++i) {
        const int32_t c = i / l->inner % l->count;
        const float there = (float)next(&charges[index]);
        const float here = (float)number(l->membrane, l->holds, i) * l->factor[c] + l->offset[c];
        const float level = 1e-3f * l->weighs[c];
        ++charged;
        if (here - there > level || there - here > level) ++odd;
    }
}

static void seen(int32_t index, const void *values) {
    const layer *l = &layers[index];
    const tensor *t = &trains[index];
    const int starts = taken == 0 || taken == PREFIX_REHEARSAL;
    if (sent) {
        if (l->sends == 'f') write((const float *)values, l->size);
        else for (int32_t i = 0; i < l->size; ++i) put((double)sent_value(l, values, i));
        return;
    }
    look_up(t, (taken * samples + sample) * l->size);
    for (int32_t i = 0; i < l->size; ++i) {
        const float before = starts ? l->rest : counted[index][i], now = before + (float)next(t);
        const float there = value(l, i, now) - (starts ? 0.0f : value(l, i, before));
        const float here = sent_value(l, values, i), off = here - there;
        const float level = 1e-3f * l->weighs[i / l->inner % l->count];
        counted[index][i] = now;
        ++compared;
        if (off <= level && off >= -level) continue;
        if (!differing++)
            printf("the first that differs: layer %s, neuron %ld, sample %ld, step %ld sends %g, not %g\\n", l->name,
                   (long)i, sample, (long)taken, (double)here, (double)there);
    }
    if (charges[index].width) weigh(index);
}

int main(int argc, char **argv) {
    unsigned char length[8];
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: %s VECTORS.safetensors [SPIKES]\\n", argv[0]);
        return 2;
    }
    vectors = fopen(argv[1], "rb");
    demand(vectors != NULL && fread(length, 8, 1, vectors) == 1, "the vectors cannot be read");
    for (int32_t i = 7; i >= 0; --i) {
        demand(data < 1L << 20, "the vectors are no safetensors file");
        data = data * 256 + length[i];
    }
    names = (char *)calloc((size_t)data + 1, 1);
    demand(names != NULL && fread(names, 1, (size_t)data, vectors) == (size_t)data, "the vectors cannot be read");
    data += 8;
    if (argc == 3) {
        sent = fopen(argv[2], "wb");
        demand(sent != NULL, "the file cannot be written");
    } else {
        demand(strstr(names, PREFIX_NETWORK) != NULL, "the vectors are those of another network");
    }
    for (int32_t i = 0; inputs[i].name; ++i) entered[i] = found("", inputs[i].name, inputs[i].size);
    for (int32_t i = 0; answers[i].name && !sent; ++i) answered[i] = found("output.", answers[i].name, answers[i].size);
    for (int32_t i = 0; layers[i].name && !sent; ++i) {
        trains[i] = found("spikes.", layers[i].name, (long)PREFIX_STEPS * layers[i].size);
        if (entry_of("potential.", layers[i].name) && layers[i].membrane)
            charges[i] = found("potential.", layers[i].name, (long)PREFIX_STEPS * layers[i].size);
        counted[i] = (float *)calloc((size_t)layers[i].size, sizeof(float));
        demand(counted[i] != NULL, "out of memory");
    }
    for (sample = 0; sample < samples; ++sample) {
        for (int32_t i = 0; inputs[i].name; ++i) {
            look_up(&entered[i], sample * inputs[i].size);
            for (int32_t n = 0; n < inputs[i].size; ++n) enter(&inputs[i], n, next(&entered[i]));
        }
        RUN_IT;
        for (int32_t i = 0; answers[i].name; ++i) {
            if (!sent) look_up(&answered[i], sample * answers[i].size);
            for (int32_t n = 0; n < answers[i].size; ++n) {
                const double given = answer(&answers[i], n), off = sent ? 0.0 : given - next(&answered[i]);
                if (sent) put(given);
                if (off > farthest || -off > farthest) farthest = off < 0 ? -off : off;
            }
        }
    }
    if (sent) return fclose(sent) ? 2 : 0;
    printf("%ld samples, %ld steps: %ld of %ld values of neurons are as they are there; "
           "answers differ by %g at most\\n", samples, (long)PREFIX_STEPS, compared - differing, compared, farthest);
    if (charged) printf("%ld of %ld potentials are as they are there\\n", charged - odd, charged);
    return differing > 0 || odd > 0;
}
#endif
"""

# What names of a file are not to be: those of the program, and of what it is written with.
TAKEN = frozenset(re.findall(r"\w+", _SEEN + _MAIN))


@final
@dataclass
class Checker:
    """The program of one file, as it comes to be: layers of neurons, inputs and answers."""

    prefix: str
    names: Names
    layers: list[str] = field(default_factory=list)
    _constants: list[str] = field(default_factory=list)
    _rows: list[str] = field(default_factory=list)
    _inputs: list[str] = field(default_factory=list)
    _answers: list[str] = field(default_factory=list)

    def seen(self, sent: str) -> str:
        """Return what stands in front of all that sends spikes, of which it is said what is sent."""
        return _SEEN.replace("PREFIX", self.prefix.upper()).replace("SENT", sent)

    def see(
        self, name: str, size: int, parts: Mapping[str, Array], pattern: Along, membrane: Value, sends: str, rest: float
    ) -> int:
        """Add a layer of neurons, and return its number.

        In ``parts`` a spike ``weighs`` its threshold and, below zero, that times its ``slope``, if any; what is in the
        ``membrane`` ("" where nobody knows) times the ``factor``, and the ``offset`` on top, is the potential. All are
        along one ``pattern``. ``sends`` is the type of what is sent.
        """
        arrays = {part: self._kept(name, part, array) for part, array in parts.items()}
        pointers = arrays["weighs"], arrays.get("slope", "NULL"), membrane or "NULL", arrays["factor"], arrays["offset"]
        row = _key(name), size, pattern.inner, pattern.count, *pointers, number(rest), _letter(sends)
        self._rows.append(_row(*row, _letter(membrane.kind)))
        self.layers.append(name)
        return len(self.layers) - 1

    def take(self, name: str, argument: Value, size: int, unit: float | None, most: int | None) -> None:
        """Add an input by its name in the vectors; it may be counted in a unit, of which there are so many at most."""
        held = "NULL" if unit is None else self._kept(name, "unit", np.array([unit], np.float32))
        self._inputs.append(self._port(name, argument, size, Along((), 1, 1), held, most))

    def give(self, name: str, argument: Value, size: int, pattern: Along) -> None:
        """Add an answer; it may be counted in units along a pattern."""
        held = self._kept(name, "unit", pattern.values[0]) if pattern.values else "NULL"
        self._answers.append(self._port(name, argument, size, pattern, held, None))

    def written(self, run: str) -> str:
        """Return the program, which runs a sample by a call."""
        filled = {
            "CONSTANTS": "\n".join(self._constants),
            "LAYERS": _rows(self._rows, "NULL, 0, 1, 1, NULL, NULL, NULL, NULL, NULL, 0.0f, 'f', 'f'"),
            "INPUTS": _rows(self._inputs, "NULL, NULL, 0, 1, 1, 'f', NULL, 0.0f"),
            "ANSWERS": _rows(self._answers, "NULL, NULL, 0, 1, 1, 'f', NULL, 0.0f"),
            "RUN_IT": run,
            "PREFIX": self.prefix.upper(),
        }
        return re.sub("|".join(filled), lambda found: filled[found[0]], _MAIN)

    def _kept(self, name: str, part: str, array: Array) -> str:
        kept = self.names.new(name, part)
        self._constants.append(declared(kept, array))
        return kept

    def _port(self, name: str, argument: Value, size: int, pattern: Along, unit: str, most: int | None) -> str:
        self._constants.append(f"static {argument.kind} {argument}[{max(size, 1)}];")
        kind = _letter(argument.kind)
        return _row(_key(name), argument, size, pattern.inner, pattern.count, kind, unit, number(most or 0))


def _letter(kind: str) -> str:
    """Return the letter that stands for a type, as the program has it."""
    return f"'{kind[0] if kind in ('float', 'uint8_t') else WIDTHS[kind]}'"


def _key(name: str) -> str:
    """Write a name as it stands in the header of vectors, which is JSON."""
    return text(json.dumps(name, ensure_ascii=False)[1:-1])


def _row(*entries: object) -> str:
    return f"{{{', '.join(map(str, entries))}}}"


def _rows(rows: Sequence[str], last: str) -> str:
    return ",\n    ".join([*rows, _row(last)])
