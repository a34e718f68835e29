"""The program for tests that a file in C holds behind a macro: samples in, spikes compared or written."""

# In the place of the words in capitals stand those of a file.
SEEN = """
#ifdef PREFIX_MAIN
static void seen(int32_t layer, const float *values);
#define PREFIX_SPIKES(layer, values) seen(layer, values)
#endif
/* Define it to see what a layer of neurons sends at a step: spikes times what they weigh. */
#ifndef PREFIX_SPIKES
#define PREFIX_SPIKES(layer, values) ((void)0)
#endif
"""

MAIN = """
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
    float rest;
} layer;

typedef struct {
    char kind[4];
    long start, numbers;
    size_t width;
} tensor;

CONSTANTS
static const layer layers[] = {
    LAYERS
};

static FILE *vectors, *sent;
static char *names;
static long data, sample, samples, compared, differing;
static float *counted[sizeof(layers) / sizeof(layers[0])];
static tensor trains[sizeof(layers) / sizeof(layers[0])];
static double farthest;

static void demand(int holds, const char *otherwise) {
    if (holds) return;
    fprintf(stderr, "error: %s\\n", otherwise);
    exit(2);
}

static tensor found(const char *before, const char *name) {
    tensor t;
    char *key = (char *)malloc(strlen(before) + strlen(name) + 16), *entry, *offsets;
    long end;
    demand(key != NULL, "out of memory");
    sprintf(key, "\\"%s%s\\":{\\"dtype\\":\\"", before, name);
    entry = strstr(names, key);
    demand(entry != NULL, "the vectors lack an input, a layer or an output of this network");
    entry += strlen(key);
    free(key);
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
    return t;
}

static void look_up(const tensor *t, long first) {
    demand(first >= 0 && first <= t->numbers, "the vectors have other shapes than this network");
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

static float value(const layer *l, int32_t i, float count) {
    const int32_t c = i / l->inner % l->count;
    return l->weighs[c] * (l->slope && count < 0.0f ? count * l->slope[c] : count);
}

static void seen(int32_t index, const float *values) {
    const layer *l = &layers[index];
    const tensor *t = &trains[index];
    const int starts = taken == 0 || taken == PREFIX_REHEARSAL;
    if (sent) {
        demand(fwrite(values, sizeof(float), (size_t)l->size, sent) == (size_t)l->size, "the file cannot be written");
        return;
    }
    look_up(t, (taken * samples + sample) * l->size);
    for (int32_t i = 0; i < l->size; ++i) {
        const float before = starts ? l->rest : counted[index][i], now = before + (float)next(t);
        const float there = value(l, i, now) - (starts ? 0.0f : value(l, i, before)), off = values[i] - there;
        const float level = 1e-3f * l->weighs[i / l->inner % l->count];
        counted[index][i] = now;
        ++compared;
        if (off <= level && off >= -level) continue;
        if (!differing++)
            printf("the first that differs: layer %s, neuron %ld, sample %ld, step %ld sends %g, not %g\\n", l->name,
                   (long)i, sample, (long)taken, (double)values[i], (double)there);
    }
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
    {
    SAMPLES
    }
    if (sent) return fclose(sent) ? 2 : 0;
    printf("%ld samples, %ld steps: %ld of %ld values of neurons are as they are there; "
           "answers differ by %g at most\\n", samples, (long)PREFIX_STEPS, compared - differing, compared, farthest);
    return differing > 0;
}
#endif
"""
